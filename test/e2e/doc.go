// Package e2e tests the whole of pg_courier: two real clusters, the extension
// that is installed in PG_CONFIG's server, and real sidecar processes, which are
// killed, doubled and cut off. Every test ends with a comparison of whole tables
// on both sides.
//
// Environment:
//
//	COURIER_BIN           the sidecar; otherwise bin/courier of this tree
//	COURIER_TEST_SECONDS  how long each test under load runs
//	COURIER_SOAK_SECONDS  how long TestSoak runs: 1800 are promised, 20 the default
//	COURIER_SEED          seed of the random tests; each prints the one it used
//	COURIER_TEST_WAKEUPS  how often the tests of wake-ups wake a waiter; 10,000 are
//	                      promised
//	COURIER_TEST_SUBSCRIPTIONS
//	                      how many subscriptions TestManySubscriptions has; 200
//	                      are promised, 40 are the default
//	COURIER_TEST_COPY_ROWS, COURIER_TEST_COPY_ROUNDS
//	                      rows of the tables that TestCopyCrash copies, and how
//	                      often somebody is killed meanwhile; 5 million and 20 are
//	                      promised, 30,000 and 3 the default
//	COURIER_TEST_COPY_MB  size of the values of a large row that is copied or
//	                      compared; 50 are promised and the default of copies, of
//	                      courier.copy_table() 25, of comparisons 10, of rows that
//	                      follow each other 15
//	COURIER_TEST_ROWS     rows of the large transactions; 10,000,000 are promised
//	COURIER_TEST_MB       size of the large text; 200 are promised
//	COURIER_TEST_TABLES   how many tables TestManyTables has
//	COURIER_TEST_SCHEMAS  how many random schemas TestRandomSchemas has; 200 are
//	                      the default, 0 goes on until one fails or go test's
//	                      -timeout ends it. Schema i of a run has the seed
//	                      COURIER_SEED + i: to see one again, set this to 1 and
//	                      COURIER_SEED to its seed
//	COURIER_TEST_COMPARE_THOUSANDS, COURIER_TEST_COMPARISONS
//	                      how many thousand rows the table has that
//	                      TestCompareUnderLoad compares, and how often; 5000 and
//	                      20 are promised, 20 and 20 are the default
//
// With more than 8 seconds a blackhole lasts 30 s at least.
//
// Tests that load the machine run one after the other; then those that mostly
// wait run in parallel.
package e2e
