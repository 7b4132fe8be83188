/* How the log is started: see pgsrc_start.h. Pure.
 *
 *   target knows   slot exists                         slot missing
 *   nothing        ours: stop (5); ?slot=: go on       ours: create; ?slot=: stop (3)
 *   a claim        go on from confirmed                the same
 *   a position     same lineage and history, confirmed stop (5)
 *                  <= resume, applied <= the log's
 *                  end: go on
 */
#include "connectors/postgres/pgsrc_start.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/json.h"
#include "connectors/postgres/pgsrc_lsn.h"
#include "connectors/postgres/session.h"

#define ANEW "to begin anew: tailrace drop JOB --yes, then run it with an empty target"

/* A position is ASCII, a database's name need not be. */
static void put_ascii(struct buf *out, const char *text) {
    json_t *string = json_string(text);
    char *escaped = string ? json_dumps(string, JSON_ENCODE_ANY | JSON_ENSURE_ASCII) : NULL;
    if (escaped) {
        buf_puts(out, escaped);
    } else {
        json_put_cstr(out, text);
    }
    free(escaped);
    json_decref(string);
}

void pgsrc_lineage_put(struct buf *out, const struct pgsrc_lineage *l) {
    buf_puts(out, "{\"system\":");
    json_put_cstr(out, l->system);
    buf_puts(out, ",\"slot\":");
    json_put_cstr(out, l->slot);
    buf_puts(out, ",\"database\":");
    put_ascii(out, l->database);
    if (l->timeline) {
        buf_putf(out, ",\"timeline\":%u,\"fork\":\"", l->timeline);
        pgsrc_lsn_put(out, l->fork);
        buf_puts(out, "\",\"kept\":\"");
        pgsrc_lsn_put(out, l->kept);
        buf_putc(out, '"');
    }
    buf_putc(out, '}');
}

static int take_member(const json_t *object, const char *key, char *out, size_t cap) {
    const char *text = json_string_value(json_object_get(object, key));
    if (!text || strlen(text) >= cap) {
        return -1;
    }
    snprintf(out, cap, "%s", text);
    return 0;
}

/* The members that came later: all three or none. */
static int take_history(const json_t *object, struct pgsrc_lineage *out) {
    const json_t *timeline = json_object_get(object, "timeline");
    char fork[PGSRC_LSN_TEXT], kept[PGSRC_LSN_TEXT];
    if (!timeline) {
        return 0;
    }
    json_int_t number = json_integer_value(timeline);
    out->timeline = (uint32_t)number;
    return number >= 1 && number <= UINT32_MAX &&
                   take_member(object, "fork", fork, sizeof fork) == 0 &&
                   take_member(object, "kept", kept, sizeof kept) == 0 &&
                   pgsrc_lsn_parse(fork, &out->fork) == 0 && pgsrc_lsn_parse(kept, &out->kept) == 0
               ? 0
               : -1;
}

int pgsrc_lineage_take(const char *json, struct pgsrc_lineage *out) {
    *out = (struct pgsrc_lineage){ .system = "" };
    json_t *object = json_loads(json, JSON_REJECT_DUPLICATES, NULL);
    int rc = json_is_object(object) &&
                     take_member(object, "system", out->system, sizeof out->system) == 0 &&
                     take_member(object, "slot", out->slot, sizeof out->slot) == 0 &&
                     take_member(object, "database", out->database, sizeof out->database) == 0 &&
                     take_history(object, out) == 0
                 ? 0
                 : -1;
    json_decref(object);
    return rc;
}

static int stop(struct err *err, const char *code, const char *text, const char *subject) {
    err_set(err, ERR_FATAL, code, "%s \"%s\"", text, subject);
    err_exit(err, EXIT_LINEAGE);
    return err_cure(err, ANEW);
}

/* What is wrong with a slot that exists, whatever the target knows. */
static int check_slot(const struct pgsrc_start_in *in, struct err *err) {
    const char *slot = in->here.slot;
    if (!in->slot.logical_pgoutput) {
        err_set(err, ERR_FATAL, "slot_foreign", "the slot \"%s\" is no logical slot of pgoutput",
                slot);
        err_exit(err, EXIT_LINEAGE);
        return err_cure(err,
                        "name another slot with ?slot=, or give the job another name with ?job=");
    }
    if (in->slot.two_phase) {
        err_set(
            err, ERR_FATAL, "slot_foreign",
            "the slot \"%s\" was made for two-phase commits: prepared transactions would arrive "
            "before they are committed",
            slot);
        err_exit(err, EXIT_LINEAGE);
        return err_cure(err,
                        "make one without: SELECT pg_drop_replication_slot('%s'); SELECT "
                        "pg_create_logical_replication_slot('%s', 'pgoutput');",
                        slot, slot);
    }
    if (strcmp(in->slot.database, in->here.database) != 0) {
        err_set(err, ERR_FATAL, "slot_foreign",
                "the slot \"%s\" belongs to the database \"%s\", the job reads \"%s\"", slot,
                in->slot.database, in->here.database);
        err_exit(err, EXIT_LINEAGE);
        return err_cure(err, "give the job another name with ?job=");
    }
    if (strcmp(in->slot.wal_status, "lost") == 0 || in->slot.cause[0]) {
        err_set(err, ERR_FATAL, "slot_invalidated",
                "the server has invalidated the slot \"%s\" (%s): the log it needs is gone", slot,
                in->slot.cause[0] ? in->slot.cause : "max_slot_wal_keep_size");
        err_exit(err, EXIT_LINEAGE);
        return err_cure(err, ANEW "; a larger %s keeps it from happening again",
                        strcmp(in->slot.cause, "idle_timeout") == 0
                            ? "idle_replication_slot_timeout"
                            : "max_slot_wal_keep_size");
    }
    if (!in->publications) {
        err_set(err, ERR_FATAL, "publication_lost",
                "the publication \"%s\" does not exist, but the slot \"%s\" does: one that is "
                "created now is not in its past",
                in->publication, slot);
        err_exit(err, EXIT_LINEAGE);
        return err_cure(err, ANEW);
    }
    return 0;
}

int pgsrc_history_end(const char *history, uint32_t timeline, uint64_t *end) {
    uint32_t last = 0;
    for (const char *line = history; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        const char *p = line + strspn(line, " \t\r");
        if (*p == '\n' || *p == '#' || !*p) {
            continue;
        }
        char text[PGSRC_LSN_TEXT], *after;
        unsigned long number = strtoul(p, &after, 10);
        size_t digits = strspn(p, "0123456789");
        p = after + strspn(after, " \t");
        size_t len = strcspn(p, " \t\r\n");
        if (!digits || number <= last || number > UINT32_MAX || p == after || len >= sizeof text) {
            return -1;
        }
        snprintf(text, sizeof text, "%.*s", (int)len, p);
        last = (uint32_t)number;
        if (pgsrc_lsn_parse(text, end)) {
            return -1;
        }
        if (last == timeline) {
            return 1;
        }
    }
    return !timeline && last;
}

/* Is the log below the target's position, and the slot, what they were? */
static int check_history(const struct pgsrc_start_in *in, struct err *err) {
    const struct pgsrc_lineage *was = &in->stored, *is = &in->here;
    uint64_t at = in->applied > in->resume ? in->applied : in->resume, end = 0;
    char a[PGSRC_LSN_TEXT], b[PGSRC_LSN_TEXT];
    const char *text = pgsrc_lsn_text(at, a);
    if (at > in->log_end) {
        return err_set(
            err, ERR_FATAL, "other_history",
            "the target is at %s, the server's log ends at %s: the server was set back (\"%s\")",
            text, pgsrc_lsn_text(in->log_end, b), is->system);
    }
    if (!was->timeline) {
        return 0;
    }
    if (was->timeline != is->timeline) {
        int found = in->history ? pgsrc_history_end(in->history, was->timeline, &end) : 0;
        if (found < 0) {
            return err_set(err, ERR_FATAL, "protocol_violation",
                           "the server gave a history of timeline %u that cannot be read",
                           is->timeline);
        }
        if (!found) {
            return err_set(
                err, ERR_FATAL, "other_history",
                "the target was filled from timeline %u, the server is on timeline %u, which does "
                "not come from it: the server was set back, or is another copy",
                was->timeline, is->timeline);
        }
        return at <= end ? 0
                         : err_set(err, ERR_FATAL, "other_history",
                                   "the target is at %s of timeline %u, the server left that "
                                   "timeline at %s: what lies between never happened here",
                                   text, was->timeline, pgsrc_lsn_text(end, b));
    }
    if (was->fork && is->fork && was->fork != is->fork) {
        return err_set(err, ERR_FATAL, "other_history",
                       "timeline %u of the server began at %s, that of the target at %s: two "
                       "copies were promoted",
                       is->timeline, pgsrc_lsn_text(is->fork, a), pgsrc_lsn_text(was->fork, b));
    }
    if (is->kept && is->kept < was->kept) {
        return err_set(err, ERR_FATAL, "other_history",
                       "the slot \"%s\" keeps the log from %s on, at the job's last start it was "
                       "from %s: the server was set back",
                       is->slot, pgsrc_lsn_text(is->kept, a), pgsrc_lsn_text(was->kept, b));
    }
    return 0;
}

static int check_position(const struct pgsrc_start_in *in, struct err *err) {
    char a[PGSRC_LSN_TEXT], b[PGSRC_LSN_TEXT];
    if (strcmp(in->stored.system, in->here.system) != 0) {
        err_set(err, ERR_FATAL, "other_server",
                "the target was filled from another server: system identifier \"%s\", here it is "
                "\"%s\"",
                in->stored.system, in->here.system);
    } else if (strcmp(in->stored.database, in->here.database) != 0) {
        err_set(err, ERR_FATAL, "other_database",
                "the target was filled from the database \"%s\", not from \"%s\"",
                in->stored.database, in->here.database);
    } else if (strcmp(in->stored.slot, in->here.slot) != 0) {
        err_set(err, ERR_FATAL, "other_slot",
                "the target was filled through the slot \"%s\", not \"%s\"", in->stored.slot,
                in->here.slot);
    } else if (!in->slot.exists) {
        return stop(err, "slot_lost",
                    "the server does not have the slot any more that kept the log for the target:",
                    in->here.slot);
    } else if (check_slot(in, err)) {
        return -1;
    } else if (check_history(in, err)) {
        err_exit(err, EXIT_LINEAGE);
        return err_cure(err, ANEW);
    } else if (in->slot.confirmed > in->resume) {
        err_set(err, ERR_FATAL, "slot_ahead",
                "the slot \"%s\" was confirmed up to %s, the target holds %s: what lies between is "
                "gone",
                in->here.slot, pgsrc_lsn_text(in->slot.confirmed, a),
                pgsrc_lsn_text(in->resume, b));
    } else {
        return 0;
    }
    err_exit(err, EXIT_LINEAGE);
    return err_cure(err, ANEW);
}

int pgsrc_start_decide(const struct pgsrc_start_in *in, enum pgsrc_start_action *action,
                       uint64_t *from, struct err *err) {
    if (in->knows == TARGET_POSITION) {
        *action = PGSRC_GO_ON;
        *from = in->resume;
        return check_position(in, err);
    }
    if (!in->slot.exists) {
        if (!in->own_slot) {
            err_set(err, ERR_FATAL, "slot_missing", "the slot of ?slot= does not exist: \"%s\"",
                    in->here.slot);
            err_exit(err, EXIT_PLAN);
            return err_cure(err, "SELECT pg_create_logical_replication_slot('%s', 'pgoutput');",
                            in->here.slot);
        }
        *action = PGSRC_CREATE;
        return 0;
    }
    if (in->knows == TARGET_NOTHING && in->own_slot) {
        return stop(err, "slot_exists",
                    "the target knows nothing of this job, but the server has its slot: another "
                    "target, or an emptied one?",
                    in->here.slot);
    }
    *action = PGSRC_GO_ON;
    *from = in->slot.confirmed;
    return check_slot(in, err);
}
