/* The common answers of stdout: and discard:. See no_position.h. */
#include "sinks/inspect/no_position.h"

int no_position_address(const struct sink_address *addr, struct err *err) {
    bool plain = !(addr->hosts && *addr->hosts) &&
                 !(addr->path && *addr->path && strcmp(addr->path, "/") != 0) && !addr->user &&
                 !addr->secret;
    if (plain) {
        return 0;
    }
    err_set(err, ERR_FATAL, "sink_address", "%s: has neither host nor path", addr->scheme);
    err_cure(err, "%s:", addr->scheme);
    return err_exit(err, EXIT_USAGE);
}

int no_position_examine(struct sink *s, struct source_findings *out, struct err *err) {
    (void)s;
    (void)out;
    (void)err;
    return 0;
}

int no_position_peek(struct sink *s, struct sink_state *out, struct err *err) {
    (void)s;
    (void)err;
    *out = (struct sink_state){ .knows = TARGET_NOTHING };
    return 0;
}

int no_position_recover(struct sink *s, struct sink_state *out, struct err *err) {
    (void)s;
    (void)err;
    *out = (struct sink_state){ .knows = TARGET_NOTHING, .epoch = 1 };
    return 0;
}

int no_position_apply_schema(struct sink *s, const struct commit_request *next, struct err *err) {
    (void)s;
    (void)next;
    (void)err;
    return 0;
}

enum resolve_outcome no_position_resolve(struct sink *s, const struct commit_request *req,
                                         struct err *err) {
    (void)s;
    (void)req;
    (void)err;
    return RESOLVED_COMMITTED;
}
