/* stdout: rows as lines on descriptor 1, whole lines after every item, so that people see them as
 * they come. Thread: the writer's task writes; nothing else does. */
#include "sinks/inspect/stdout.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "sinks/encode/changelog_json.h"
#include "sinks/inspect/no_position.h"

enum { POLL_MS = 1000 };

struct stdout_sink {
    struct sink base;
    int (*put_logpos)(struct buf *out, struct logpos pos);
};
struct stdout_writer {
    struct sink_writer base;
    struct changelog_json *encoder;
};

static const struct opt_spec stdout_opts[] = {
    NO_POSITION_FRESHNESS,
    { .key = NULL },
};

/* All bytes to descriptor 1, also if it is a pipe that does not block. */
static int write_out(void *arg, const void *bytes, size_t len, struct err *err) {
    (void)arg;
    const char *at = bytes;
    while (len > 0) {
        ssize_t n = write(STDOUT_FILENO, at, len);
        if (n > 0) {
            at += n;
            len -= (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            struct pollfd p = { .fd = STDOUT_FILENO, .events = POLLOUT };
            int ready = poll(&p, 1, POLL_MS);
            (void)ready; /* in any case: try again */
        } else if (n < 0 && errno != EINTR) {
            return err_set(err, ERR_FATAL, errno == EPIPE ? "stdout_closed" : "stdout_failed",
                           "write \"stdout\": %s", strerror(errno));
        }
    }
    return 0;
}

static int stdout_open(const struct sink_address *addr, struct env *env, struct sink **out,
                       struct err *err) {
    (void)env;
    if (no_position_address(addr, err)) {
        return -1;
    }
    struct stdout_sink *s = xcalloc(1, sizeof *s);
    s->base.ops = &stdout_ops;
    s->put_logpos = addr->put_logpos;
    *out = &s->base;
    return 0;
}

static void stdout_close(struct sink *s) { free(s); /* base is its first member */ }

static enum commit_outcome stdout_commit(struct sink *s, const struct commit_request *req,
                                         struct err *err) {
    (void)s;
    (void)req;
    (void)err;
    return COMMITTED; /* every item was written when it was staged */
}

static int stdout_writer_open(struct sink *s, uint32_t number, struct sink_writer **out,
                              struct err *err) {
    (void)number;
    (void)err;
    struct stdout_writer *w = xcalloc(1, sizeof *w);
    w->base.ops = &stdout_ops;
    w->encoder = changelog_json_new(((struct stdout_sink *)s)->put_logpos, write_out, w);
    *out = &w->base;
    return 0;
}

static struct stdout_writer *writer_of(struct sink_writer *w) { return (struct stdout_writer *)w; }

static int stdout_writer_stage(struct sink_writer *w, const struct stage_item *item,
                               struct err *err) {
    struct changelog_json *e = writer_of(w)->encoder;
    return changelog_json_put(e, item, err) || changelog_json_flush(e, err) ? -1 : 0;
}

static int stdout_writer_seal(struct sink_writer *w, uint64_t seq, struct sink_part **out,
                              struct err *err) {
    (void)w;
    (void)seq;
    (void)err;
    *out = NULL;
    return 0;
}

static void stdout_writer_close(struct sink_writer *w) {
    changelog_json_free(writer_of(w)->encoder);
    free(w);
}

static void stdout_part_free(struct sink_part *part, bool committed) {
    (void)committed;
    CHECK(!part);
}

const struct sink_ops stdout_ops = {
    .name = "stdout",
    .opts = stdout_opts,
    .owns_position = false,
    .stages = false,
    .writers_max = 1,
    .freshness_us = NO_POSITION_FRESHNESS_US,
    .open = stdout_open,
    .close = stdout_close,
    .examine = no_position_examine,
    .peek = no_position_peek,
    .recover = no_position_recover,
    .apply_schema = no_position_apply_schema,
    .commit = stdout_commit,
    .resolve = no_position_resolve,
    .writer_open = stdout_writer_open,
    .writer_stage = stdout_writer_stage,
    .writer_seal = stdout_writer_seal,
    .writer_close = stdout_writer_close,
    .part_free = stdout_part_free,
    .summary = sink_sums_up_nothing,
    .describe = sink_describes_nothing,
};
