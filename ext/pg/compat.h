/*
 * compat.h
 *	  Every difference between PostgreSQL 14 and 18 that this code meets.
 *
 * A file that needs PG_VERSION_NUM is a sign that something belongs here.
 */
#ifndef COURIER_COMPAT_H
#define COURIER_COMPAT_H

#if PG_VERSION_NUM < 140000
#error "pg_courier needs PostgreSQL 14 or later"
#endif

#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* Split off from access/xlog.h in 15. */
#if PG_VERSION_NUM >= 150000
#include "access/xlogrecovery.h"
#else
#include "access/xlog.h"
#endif

/* set_config_option() grew a separate entry point for a named role in 15. */
#define courier_set_guc(name, value) \
	((void) set_config_option((name), (value), PGC_USERSET, PGC_S_SESSION, \
							  GUC_ACTION_SAVE, true, 0, false))

/* MarkGUCPrefixReserved() is new in 15. */
#if PG_VERSION_NUM >= 150000
#define courier_reserve_prefix(prefix) MarkGUCPrefixReserved(prefix)
#else
#define courier_reserve_prefix(prefix) EmitWarningsOnPlaceholders(prefix)
#endif

/* Shared memory is asked for in a hook since 15, by _PG_init() itself before. */
#if PG_VERSION_NUM >= 150000
#define courier_request_shared_memory(function, previous) \
	do { (previous) = shmem_request_hook; shmem_request_hook = (function); } while (0)
#else
typedef void (*shmem_request_hook_type) (void);
#define courier_request_shared_memory(function, previous) \
	do { (previous) = NULL; (function)(); } while (0)
#endif

/* Wait events of extensions have names of their own since 17. */
#if PG_VERSION_NUM >= 170000
#define courier_wait_event(name) WaitEventExtensionNew(name)
#else
#define courier_wait_event(name) ((void) (name), (uint32) PG_WAIT_EXTENSION)
#endif

/* GetFlushRecPtr() tells the timeline since 15. */
#if PG_VERSION_NUM >= 150000
#define courier_flush_location(timeline) GetFlushRecPtr(timeline)
#else
#define courier_flush_location(timeline) \
	(*(timeline) = ThisTimeLineID, GetFlushRecPtr())
#endif

/* BufFileReadExact() is new in 16; before, BufFileRead() returns a count. */
#if PG_VERSION_NUM >= 160000
#define courier_buffile_read(file, ptr, size) \
	BufFileReadExact((file), (ptr), (size))
#else
#define courier_buffile_read(file, ptr, size) \
	do { \
		if (BufFileRead((file), (ptr), (size)) != (size)) \
			ereport(ERROR, \
					(errcode_for_file_access(), \
					 errmsg("could not read the spilled changes of this " \
							"transaction: %m"))); \
	} while (0)
#endif

/* InitMaterializedSRF() was SetSingleFuncCall() in 15 and is missing in 14. */
#if PG_VERSION_NUM >= 150000
#define courier_materialize_result(fcinfo) InitMaterializedSRF((fcinfo), 0)
#else
#define courier_materialize_result(fcinfo) \
	do { \
		ReturnSetInfo *rsi_ = (ReturnSetInfo *) (fcinfo)->resultinfo; \
		MemoryContext old_ = MemoryContextSwitchTo( \
			rsi_->econtext->ecxt_per_query_memory); \
		if (get_call_result_type((fcinfo), NULL, &rsi_->setDesc) != \
			TYPEFUNC_COMPOSITE) \
			elog(ERROR, "return type must be a row type"); \
		rsi_->setDesc = CreateTupleDescCopy(rsi_->setDesc); \
		rsi_->returnMode = SFRM_Materialize; \
		rsi_->setResult = tuplestore_begin_heap( \
			(rsi_->allowedModes & SFRM_Materialize_Random) != 0, false, \
			work_mem); \
		MemoryContextSwitchTo(old_); \
	} while (0)
#endif

/* Index access methods may keep state between inserts since 17. */
#if PG_VERSION_NUM >= 170000
#define courier_index_insert_cleanup(index, info) \
	index_insert_cleanup((index), (info))
#else
#define courier_index_insert_cleanup(index, info) ((void) 0)
#endif

/* index_beginscan() can instrument a scan since 18. */
#if PG_VERSION_NUM >= 180000
#define courier_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan((heap), (index), (snapshot), NULL, (nkeys), 0)
#else
#define courier_index_beginscan(heap, index, snapshot, nkeys) \
	index_beginscan((heap), (index), (snapshot), (nkeys), 0)
#endif

/* ExecutorRun() can always be called again since 18. */
#if PG_VERSION_NUM >= 180000
#define COURIER_EXECUTOR_RUN_PARAMETERS \
	QueryDesc *query, ScanDirection direction, uint64 count
#define COURIER_EXECUTOR_RUN_ARGUMENTS query, direction, count
#else
#define COURIER_EXECUTOR_RUN_PARAMETERS \
	QueryDesc *query, ScanDirection direction, uint64 count, bool once
#define COURIER_EXECUTOR_RUN_ARGUMENTS query, direction, count, once
#endif

/* A privilege check of a kind of its own became object_aclcheck() in 16. */
#if PG_VERSION_NUM >= 160000
#define courier_may_use_server(server) \
	(object_aclcheck(ForeignServerRelationId, (server), GetUserId(), \
					 ACL_USAGE) == ACLCHECK_OK)
#else
#define courier_may_use_server(server) \
	(pg_foreign_server_aclcheck((server), GetUserId(), ACL_USAGE) == \
	 ACLCHECK_OK)
#endif

/* One function checks the owner of whatever object since 16. */
#if PG_VERSION_NUM >= 160000
#define courier_is_owner(class, object) \
	object_ownercheck((class), (object), GetUserId())
#else
#define courier_is_owner(class, object) \
	((class) == DatabaseRelationId ? \
	 pg_database_ownercheck((object), GetUserId()) : \
	 (class) == RelationRelationId ? \
	 pg_class_ownercheck((object), GetUserId()) : \
	 pg_extension_ownercheck((object), GetUserId()))
#endif

#endif							/* COURIER_COMPAT_H */
