/* The jsonl sink: rows and commit line in one file, which is a ledger's (sinks/objects/ledger.h
 * tells the protocol, and why it is exact). Here: its address and options, its writer's parts, the
 * door. Thread: the commit task; writers (jsonl_writer.c) share nothing with it but parts. */
#include "sinks/jsonl/jsonl.h"

#include <stdlib.h>

#include "sinks/jsonl/jsonl_writer.h"
#include "sinks/objects/ledger.h"

struct jsonl {
    struct sink base;
    struct env *env;
    struct ledger *ledger;
    int (*put_logpos)(struct buf *out, struct logpos pos);
};

static const struct opt_spec jsonl_opts[] = {
    { .key = "freshness",
      .type = OPT_DURATION,
      .fallback = "1s",
      .min = 10 * 1000,
      .max = INT64_C(3600) * 1000 * 1000,
      .doc = "time between two commits while rows arrive" },
    { .key = NULL },
};

static struct jsonl *jsonl_of(struct sink *s) {
    return (struct jsonl *)s; /* base is its first member */
}

static int jsonl_point(struct failpoints *fp, enum ledger_point point, struct err *err) {
    switch (point) {
    case LEDGER_BEFORE_FSYNC:
        return FAILPOINT(fp, "jsonl.before_fsync", err);
    case LEDGER_BEFORE_RENAME:
        return FAILPOINT(fp, "jsonl.before_rename", err);
    case LEDGER_AFTER_RENAME:
        return FAILPOINT(fp, "jsonl.after_rename", err);
    case LEDGER_AFTER_DIR_SYNC:
        return FAILPOINT(fp, "jsonl.after_dir_sync", err);
    case LEDGER_BEFORE_CLAIM:
        return FAILPOINT(fp, "jsonl.before_claim", err);
    case LEDGER_AFTER_CLAIM:
        return FAILPOINT(fp, "jsonl.after_claim", err);
    case LEDGER_BEFORE_SCHEMA:
        return FAILPOINT(fp, "jsonl.before_schema", err);
    case LEDGER_AFTER_SCHEMA:
        return FAILPOINT(fp, "jsonl.after_schema", err);
    case LEDGER_BEFORE_IDLE:
        return FAILPOINT(fp, "jsonl.before_idle", err);
    case LEDGER_AFTER_IDLE:
        return FAILPOINT(fp, "jsonl.after_idle", err);
    }
    CHECK(!"a point that does not exist");
    return -1;
}

static int jsonl_open(const struct sink_address *addr, struct env *env, struct sink **out,
                      struct err *err) {
    char *dir = ledger_address(addr, jsonl_ops.name, err);
    if (!dir) {
        return -1;
    }
    struct jsonl *j = xcalloc(1, sizeof *j);
    j->base.ops = &jsonl_ops;
    j->env = env;
    j->put_logpos = addr->put_logpos;
    j->ledger = ledger_new(&(struct ledger_config){
        .scheme = jsonl_ops.name, .point = jsonl_point, .env = env, .dir = dir, .job = addr->job });
    free(dir);
    *out = &j->base;
    return 0;
}

static void jsonl_close(struct sink *s) {
    ledger_free(jsonl_of(s)->ledger);
    free(s);
}

static int jsonl_peek(struct sink *s, struct sink_state *out, struct err *err) {
    return ledger_peek(jsonl_of(s)->ledger, out, err);
}
static int jsonl_examine(struct sink *s, struct source_findings *out, struct err *err) {
    return ledger_examine(jsonl_of(s)->ledger, out, err);
}
static int jsonl_recover(struct sink *s, struct sink_state *out, struct err *err) {
    return ledger_recover(jsonl_of(s)->ledger, out, err);
}
static int jsonl_apply_schema(struct sink *s, const struct commit_request *next, struct err *err) {
    return ledger_apply_schema(jsonl_of(s)->ledger, next, err);
}

/* The part that has rows; a folder has one writer. */
static struct jsonl_part *part_of_request(const struct commit_request *req) {
    struct jsonl_part *found = NULL;
    for (uint32_t i = 0; i < req->part_count; i++) {
        if (req->parts[i]) {
            CHECK(!found);
            found = jsonl_part_of(req->parts[i]);
        }
    }
    return found;
}

static enum commit_outcome jsonl_commit(struct sink *s, const struct commit_request *req,
                                        struct err *err) {
    struct jsonl_part *part = part_of_request(req);
    return ledger_commit(jsonl_of(s)->ledger, req, part ? part->staged : NULL,
                         part ? part->rows : 0, err);
}
static enum resolve_outcome jsonl_resolve(struct sink *s, const struct commit_request *req,
                                          struct err *err) {
    return ledger_resolve(jsonl_of(s)->ledger, req, err);
}

static int jsonl_writer_open(struct sink *s, uint32_t number, struct sink_writer **out,
                             struct err *err) {
    struct jsonl *j = jsonl_of(s);
    (void)err;
    CHECK(number == 0 && ledger_epoch(j->ledger) > 0);
    struct jsonl_writer_config config = { .env = j->env,
                                          .place = ledger_place(j->ledger),
                                          .put_logpos = j->put_logpos,
                                          .seq = ledger_seq(j->ledger) + 1 };
    jsonl_writer_new(&config, &jsonl_ops, out);
    return 0;
}

const struct sink_ops jsonl_ops = {
    .name = "jsonl",
    .opts = jsonl_opts,
    .owns_position = true,
    .stages = true,
    .writers_max = 1,
    .freshness_us = 1000000,
    .open = jsonl_open,
    .close = jsonl_close,
    .examine = jsonl_examine,
    .peek = jsonl_peek,
    .recover = jsonl_recover,
    .apply_schema = jsonl_apply_schema,
    .commit = jsonl_commit,
    .resolve = jsonl_resolve,
    .writer_open = jsonl_writer_open,
    .writer_stage = jsonl_writer_stage,
    .writer_seal = jsonl_writer_seal,
    .writer_close = jsonl_writer_close,
    .part_free = jsonl_part_free,
    .summary = sink_sums_up_nothing,
    .describe = sink_describes_nothing,
};
