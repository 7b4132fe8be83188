/* Inside of the simulator's targets: what a model target holds, and how its kind takes a request.
 * Included by sinks*.c only. */
#pragma once
#include "tests/sim/event.h"
#include "tests/sim/sinks.h"

#define TARGET_SCHEMAS (DB_TABLES + 4)

/* A commit as it travels. */
struct request {
    bool under_way;
    char *from, *to;
    uint64_t epoch, seq;
    unsigned group;
    char *labels[TARGET_SCHEMAS];
    uint32_t label_count;
    struct schema *schemas[TARGET_SCHEMAS];
    uint32_t schema_count;
    struct events events;
};
struct target {
    struct db *db;
    struct disk *disk;
    enum sink_kind kind;
    bool claimed;
    char *position, *token;
    uint64_t epoch, seq;
    struct buf schemas[TARGET_SCHEMAS]; /* JSON, as a target keeps them */
    uint32_t schema_count;
    struct request late;
    uint64_t tried_epoch, tried_seq, tried_hash; /* the last commit that was asked for */
};
extern struct target sim_target;
extern const struct sink_ops sim_jsonl_ops;
void jsonl_target_init(struct db *db, struct disk *disk);
/* The rows of a commit of the parquet sink, from the files that its commit file names. Damage fails
 * the run. */
void parquet_events(uint64_t seq, const struct buf *commit, struct events *out);
/* Whatever was named before is still there; newest: number of the newest commit. */
void parquet_check_named(uint64_t newest);
extern const struct sink_ops sim_iceberg_ops;
void iceberg_target_init(struct db *db, struct disk *disk, unsigned options);

/* All of it but the rows, which are added by whoever knows where they are. */
void request_init(struct request *out, const struct commit_request *req, unsigned group);
void request_release(struct request *r);
/* A second try says what the first one said. */
void request_check_retry(const struct request *r);
uint64_t request_hash(const struct request *r); /* of all that it says */
/* Rows and position stand from now on. */
void target_apply(const struct request *r);
/* Only from the stored position and by the newest epoch. */
enum commit_outcome target_judge(const struct request *r);

/* sinks_kinds.c: the request arrives at a server of its kind. */
enum commit_outcome target_take(const struct request *r);
/* A part of it arrives, and what makes it a commit does not. */
void target_take_part(const struct request *r);
void target_claimed(void); /* what was in doubt is thrown away */
/* The seq of the stored position, as the server hands it back. */
uint64_t target_seq(void);
