// Package e2e tests the whole of pg_courier: two real clusters, the extension
// that is installed in PG_CONFIG's server, and real sidecar processes, which are
// killed, doubled and cut off. Every test ends with a comparison of whole tables
// on both sides.
//
// Environment:
//
//	COURIER_BIN           the sidecar; otherwise bin/courier of this tree
//	COURIER_TEST_SECONDS  how long each test under load runs
//	COURIER_SEED          seed of the random tests; each prints the one it used
//	COURIER_TEST_SUBSCRIPTIONS
//	                      how many subscriptions TestManySubscriptions has; 200
//	                      are promised, 40 are the default
//	COURIER_TEST_COMPARE_THOUSANDS, COURIER_TEST_COMPARISONS
//	                      how many thousand rows the table has that
//	                      TestCompareUnderLoad compares, and how often; 5000 and
//	                      20 are promised, 20 and 20 are the default
//
// With more than 8 seconds a blackhole lasts 30 s at least.
//
// The tests run one after the other: each of them loads the machine.
package e2e
