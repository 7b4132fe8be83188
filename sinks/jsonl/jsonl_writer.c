/* The writer: encodes what is staged into a file that nobody sees. A failure in the middle of a
 * line cannot be taken back, so it is a REWIND (the file is dropped and staged anew from the last
 * commit) also where the disk was merely full for a moment. */
#include "sinks/jsonl/jsonl_writer.h"

#include <stdlib.h>

#include "sinks/encode/changelog_json.h"

struct jsonl_writer {
    struct sink_writer base;
    struct jsonl_writer_config config;
    struct changelog_json *encoder;
    struct ledger_staged *staged; /* NULL: nothing since the last seal */
    bool broken;
};

static struct jsonl_writer *writer_of(struct sink_writer *w) {
    return (struct jsonl_writer *)w; /* base is its first member */
}

static int write_bytes(void *arg, const void *bytes, size_t len, struct err *err) {
    struct jsonl_writer *w = arg;
    return ledger_staged_write(w->staged, bytes, len, err);
}

void jsonl_writer_new(const struct jsonl_writer_config *config, const struct sink_ops *ops,
                      struct sink_writer **out) {
    struct jsonl_writer *w = xcalloc(1, sizeof *w);
    w->base.ops = ops;
    w->config = *config;
    w->encoder = changelog_json_new(config->put_logpos, write_bytes, w);
    *out = &w->base;
}

/* Nothing staged since the last seal is good any more. */
static int fail(struct jsonl_writer *w, struct err *err) {
    w->broken = true;
    if (err->kind == ERR_RETRY) {
        err->kind = ERR_REWIND;
    }
    return -1;
}

static int refuse_broken(struct err *err) {
    return err_set(err, ERR_REWIND, "staging_failed", "staging had failed before");
}

int jsonl_writer_stage(struct sink_writer *sw, const struct stage_item *item, struct err *err) {
    struct jsonl_writer *w = writer_of(sw);
    if (w->broken) {
        return refuse_broken(err);
    }
    if (!w->staged) {
        w->staged = ledger_staged_new(w->config.env, w->config.place, w->config.seq, err);
        if (!w->staged) {
            return -1; /* nothing was written: what the files say holds, also RETRY */
        }
        changelog_json_begin(w->encoder);
    }
    if (FAILPOINT(w->config.env->failpoints, "jsonl.before_stage", err) ||
        changelog_json_put(w->encoder, item, err) ||
        FAILPOINT(w->config.env->failpoints, "jsonl.after_stage", err)) {
        return fail(w, err);
    }
    return 0;
}

int jsonl_writer_seal(struct sink_writer *sw, uint64_t seq, struct sink_part **out,
                      struct err *err) {
    struct jsonl_writer *w = writer_of(sw);
    *out = NULL;
    if (w->broken) {
        return refuse_broken(err);
    }
    if (w->staged) {
        if (changelog_json_flush(w->encoder, err) ||
            FAILPOINT(w->config.env->failpoints, "jsonl.after_seal", err)) {
            return fail(w, err);
        }
        struct jsonl_part *part = xcalloc(1, sizeof *part);
        part->staged = w->staged;
        part->rows = changelog_json_rows(w->encoder);
        w->staged = NULL;
        *out = (struct sink_part *)part;
    }
    w->config.seq = seq + 1;
    return 0;
}

void jsonl_writer_close(struct sink_writer *sw) {
    struct jsonl_writer *w = writer_of(sw);
    ledger_staged_free(w->staged, true);
    changelog_json_free(w->encoder);
    free(w);
}

void jsonl_part_free(struct sink_part *p, bool committed) {
    struct jsonl_part *part = jsonl_part_of(p);
    if (part) {
        ledger_staged_free(part->staged, !committed);
        free(part);
    }
}
