/* What the three parts of the `threads` program share: its server, its target, and the faults that
 * they play. See threads.c. */
#pragma once
#include <jansson.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/clock.h"
#include "cdc/base/task.h"
#include "cdc/base/waitq.h"
#include "cdc/key.h"
#include "engine/job.h"
#include "engine/position.h"

#define KEYS 60u
#define TABLES 2u
#define STEP 16u /* between two positions of the log */
#define LOG_MAX 4000u

enum change_kind { CHANGE_INSERT, CHANGE_UPDATE, CHANGE_DELETE, CHANGE_MOVE };
struct change {
    enum change_kind kind;
    unsigned table, key, to;
    int64_t value;
};
#define CHANGES_MAX 4u
struct record {
    uint64_t xid;
    unsigned count;
    struct change changes[CHANGES_MAX];
};
struct rows {
    bool there[TABLES][KEYS];
    int64_t value[TABLES][KEYS];
};

/* The source's server and its log; also the faults that it plays. */
struct server {
    struct waitq *q;
    struct rows now;
    struct record log[LOG_MAX];
    unsigned count, total; /* transactions committed, and at most */
    uint64_t random;
    struct schema *schemas[TABLES];
    struct rows exported[8];
    unsigned exports;
    unsigned log_calls, log_fails_at; /* REWIND at that call; 0 = never */
    unsigned lane_calls, lane_retries_each, lane_fails_at;
    uint64_t acked;
    bool slot;
};

/* The target. */
struct target {
    struct waitq *q;
    struct rows rows;
    unsigned generation[TABLES];
    char *position;
    uint64_t epoch, seq;
    bool claimed;
    unsigned commits, unknown_each; /* 0 = never */
    unsigned applied_unknown, lost_unknown;
    unsigned fenced_at, conflict_at; /* commits that are answered so; 0 = never */
    unsigned wrong;
    char why[200];
};

extern struct server *server;
extern struct target *target;
extern struct job *the_job;
extern unsigned stop_after_commits;
extern bool stop_at_once;
extern atomic_uint seq_now; /* the target's, for the server's pace */

/* threads_source.c */
unsigned below(uint64_t *random, unsigned n);
void apply(struct rows *r, const struct change *c);
struct server *server_new(unsigned total);
void server_free(struct server *s);
struct logpos pos_of(unsigned count);
/* The rows as of a position. */
void rows_at(const struct server *s, struct logpos at, struct rows *out);
extern const struct source_ops fake_source_ops;
/* threads_sink.c */
extern const struct sink_ops fake_sink_ops;
extern struct sink_ops sink_ops; /* of the case: owns a position or, like stdout, none */
