/* `status`: of a running job what its control socket says; of one that does not run what its target
 * and its server know. Reads only. With --json one object a line and job. Thread: main. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/escape.h"
#include "cdc/base/json.h"
#include "cdc/sink_call.h"
#include "cdc/source_call.h"
#include "config/cmd/control.h"
#include "config/cmd/ends.h"

/* --- running ------------------------------------------------------------------------------------
 */

static const char *text_of(json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static void put_safe(struct buf *out, const char *text) { escape_put(out, text, strlen(text)); }

static void put_bytes(struct buf *out, json_int_t bytes) {
    static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
    size_t unit = 0;
    while (bytes >= 10240 && unit + 1 < ARRAY_COUNT(units)) {
        bytes /= 1024;
        unit++;
    }
    buf_putf(out, "%lld %s", (long long)bytes, units[unit]);
}

static void put_running_tables(struct buf *out, json_t *tables) {
    size_t i;
    json_t *t;
    json_array_foreach(tables, i, t) {
        buf_puts(out, "  ");
        put_safe(out, text_of(t, "table"));
        buf_puts(out, ": ");
        put_safe(out, text_of(t, "phase"));
        json_int_t holes = json_integer_value(json_object_get(t, "holes"));
        if (strcmp(text_of(t, "phase"), "stream") != 0) {
            buf_putf(out, ", %lld of about %lld rows",
                     (long long)json_integer_value(json_object_get(t, "rows_read")),
                     (long long)json_integer_value(json_object_get(t, "rows_estimate")));
        }
        if (holes > 0) {
            buf_putf(out, ", %lld holes", (long long)holes);
        }
        buf_putc(out, '\n');
    }
}

static void put_running(struct buf *out, json_t *status) {
    json_t *lag = json_object_get(status, "lag_bytes");
    json_t *retained = json_object_get(status, "retained_bytes");
    json_t *error = json_object_get(status, "last_error");
    buf_puts(out, "job ");
    put_safe(out, text_of(status, "job"));
    buf_puts(out, ": running, ");
    put_safe(out, text_of(status, "phase"));
    if (text_of(status, "waits_for")[0]) {
        buf_puts(out, ", waits for ");
        put_safe(out, text_of(status, "waits_for"));
    }
    buf_puts(out, "\n  position ");
    put_safe(out, text_of(status, "applied")[0] ? text_of(status, "applied") : "none yet");
    if (text_of(status, "log_end")[0]) {
        buf_puts(out, ", log end ");
        put_safe(out, text_of(status, "log_end"));
    }
    if (lag) {
        buf_puts(out, ", lag ");
        put_bytes(out, json_integer_value(lag));
    }
    if (retained) {
        buf_puts(out, ", log kept by the slot ");
        put_bytes(out, json_integer_value(retained));
    }
    buf_putf(out, "\n  epoch %lld, commit %lld\n",
             (long long)json_integer_value(json_object_get(status, "epoch")),
             (long long)json_integer_value(json_object_get(status, "seq")));
    if (error) {
        buf_puts(out, "  last error: ");
        put_safe(out, text_of(error, "text"));
        buf_putc(out, '\n');
    }
    put_running_tables(out, json_object_get(status, "tables"));
}

/* Appends the answer of a running job. -1 = it is none. */
static int put_answer_of(struct command_line *line, struct buf *out, const struct buf *answer) {
    json_t *status = json_loadb(answer->data, answer->len, 0, NULL);
    if (!json_is_object(status)) {
        json_decref(status);
        return -1;
    }
    if (opts_bool(line->opts, "json")) {
        json_object_set_new(status, "running", json_true());
        char *text = json_dumps(status, JSON_COMPACT);
        buf_putf(out, "%s\n", text);
        free(text);
    } else {
        put_running(out, status);
    }
    json_decref(status);
    return 0;
}

/* Asks everywhere on this machine. ABSENT: it does not run here. */
static enum control_answer ask_job(struct command_line *line, const char *name, struct buf *out) {
    struct err err = ERR_INIT;
    char *dirs[5];
    struct buf answer;
    enum control_answer result = CONTROL_ABSENT;
    char *root = state_root(line, &err);
    buf_init(&answer, SIZE_MAX);
    if (opts_is_set(line->opts, "state") &&
        root) { /* this one was meant: another of its name may run elsewhere */
        result = control_socket_ask(root, name, &answer);
    }
    socket_dirs(root, dirs);
    for (size_t i = 0; dirs[i] && result == CONTROL_ABSENT; i++) {
        result = control_socket_ask(dirs[i], name, &answer);
    }
    socket_dirs_free(dirs);
    if (result == CONTROL_ANSWERED && put_answer_of(line, out, &answer)) {
        result = CONTROL_SILENT;
    }
    buf_release(&answer);
    free(root);
    return result;
}

static int report_silent(struct command_line *line, const char *name) {
    struct err err = ERR_INIT;
    err_set(&err, ERR_FATAL, "control_silent",
            "status of \"%s\": it runs on this machine and does not answer within 5 s", name);
    return report_error(&line->log, "cli", &err);
}

/* --- not running --------------------------------------------------------------------------------
 */

struct asleep {
    struct sink_state target;
    struct sink_description has;
    struct source_status source;
    bool target_known, source_known;
};

/* People need how far it is; the rest of what is stored is for --json. */
static void put_position(struct buf *out, const char *stored) {
    json_t *position = stored ? json_loads(stored, 0, NULL) : NULL;
    const char *applied = text_of(position, "applied");
    put_safe(out, applied[0] ? applied : stored ? stored : "null");
    json_decref(position);
}

static void put_asleep(struct buf *out, const struct job_spec *spec, const struct asleep *a,
                       const struct ends *ends) {
    buf_putf(out, "job %s: not running here\n", spec->name);
    if (a->target_known && a->target.knows == TARGET_POSITION) {
        buf_putf(out, "  target: epoch %llu, commit %llu, position ",
                 (unsigned long long)a->target.epoch, (unsigned long long)a->target.seq);
        put_position(out, a->target.position);
        buf_putc(out, '\n');
    } else if (a->target_known) {
        buf_puts(out, a->target.knows == TARGET_CLAIM ? "  target: claimed, no position yet\n"
                                                      : "  target: nothing yet\n");
    }
    buf_put(out, a->has.lines.data, a->has.lines.len);
    if (a->source_known) {
        struct buf end;
        buf_init(&end, SIZE_MAX);
        buf_puts(out, "  source: log end ");
        (void)source_put_logpos(ends->source->ops, &end,
                                a->source.log_end); /* text of a position always fits */
        put_safe(out, buf_cstr(&end));
        buf_release(&end);
        if (a->source.retained_bytes >= 0) {
            buf_puts(out, ", log kept by the slot ");
            put_bytes(out, a->source.retained_bytes);
        }
        if (a->source.detail[0]) {
            buf_puts(out, ", ");
            put_safe(out, a->source.detail);
        }
        buf_putc(out, '\n');
    }
}

static void put_asleep_json(struct buf *out, const struct job_spec *spec, const struct asleep *a,
                            const struct ends *ends) {
    static const char *const knows[] = {
        [TARGET_NOTHING] = "nothing", [TARGET_CLAIM] = "claim", [TARGET_POSITION] = "position"
    };
    buf_puts(out, "{\"job\":");
    json_put_cstr(out, spec->name);
    buf_puts(out, ",\"running\":false");
    if (a->target_known) {
        buf_putf(out, ",\"target\":{\"knows\":\"%s\",\"epoch\":%llu,\"seq\":%llu,\"position\":%s}",
                 knows[a->target.knows], (unsigned long long)a->target.epoch,
                 (unsigned long long)a->target.seq,
                 a->target.position ? a->target.position : "null");
    }
    if (a->has.json.len) {
        buf_puts(out, ",\"target_has\":");
        buf_put(out, a->has.json.data, a->has.json.len);
    }
    if (a->source_known) {
        struct buf end;
        buf_init(&end, SIZE_MAX);
        (void)source_put_logpos(ends->source->ops, &end, a->source.log_end);
        buf_puts(out, ",\"source\":{\"log_end\":");
        json_put_cstr(out, buf_cstr(&end));
        buf_release(&end);
        if (a->source.retained_bytes >= 0) {
            buf_putf(out, ",\"retained_bytes\":%lld", (long long)a->source.retained_bytes);
        }
        buf_puts(out, ",\"detail\":");
        (void)json_put_string(out, a->source.detail, strlen(a->source.detail));
        buf_putc(out, '}');
    }
    buf_puts(out, "}\n");
}

/* Of a job that runs: what its target has, which the job itself does not say. */
static int put_present(struct command_line *line, const struct job_spec *spec, struct buf *out) {
    struct ends ends;
    struct sink_description has;
    struct err err = ERR_INIT;
    int code;
    if (opts_bool(line->opts, "json")) {
        return EXIT_DONE;
    }
    ends_init(&ends, line, spec, &code);
    if (code != EXIT_DONE) {
        return code;
    }
    sink_description_init(&has);
    if (ends_sink(&ends, spec, &err) || sink_describe(ends.sink, NULL, &has, &err)) {
        code = report_error(&ends.world.log, "commit", &err);
    } else {
        hide_text(spec->hide, &has.lines);
        buf_put(out, has.lines.data, has.lines.len);
    }
    sink_description_release(&has);
    ends_release(&ends);
    return code;
}

/* The target is asked even if the server does not answer, and the reverse. */
static int status_asleep(struct command_line *line, const struct job_spec *spec, struct buf *out) {
    struct ends ends;
    struct asleep a = { .target_known = false };
    struct err err = ERR_INIT;
    int code;
    ends_init(&ends, line, spec, &code);
    if (code != EXIT_DONE) {
        return code;
    }
    sink_description_init(&a.has);
    if (ends_sink(&ends, spec, &err) || sink_peek(ends.sink, &a.target, &err) ||
        sink_describe(ends.sink, NULL, &a.has, &err)) {
        code = report_error(&ends.world.log, "commit", &err);
        err_clear(&err);
    } else {
        a.target_known = true;
    }
    a.source.retained_bytes = -1;
    if (ends_source(&ends, spec, rules_select, &spec->rules, &err) ||
        source_status(ends.source, &a.source, &err)) {
        code = worse(code, report_error(&ends.world.log, "ctl", &err));
    } else {
        a.source_known = true;
    }
    struct buf answer;
    buf_init(&answer, SIZE_MAX);
    if (opts_bool(line->opts, "json")) {
        put_asleep_json(&answer, spec, &a, &ends);
        hide_json(spec->hide, &answer);
    } else {
        put_asleep(&answer, spec, &a, &ends);
        hide_text(spec->hide, &answer);
    }
    buf_put(out, answer.data, answer.len);
    buf_release(&answer);
    sink_state_release(&a.target);
    sink_description_release(&a.has);
    ends_release(&ends);
    return code;
}

/* --- the command --------------------------------------------------------------------------------
 */

/* All that run on this machine. */
static int status_all(struct command_line *line, struct buf *out) {
    struct err err = ERR_INIT;
    char *dirs[5];
    struct buf names;
    int code = EXIT_DONE;
    uint32_t found = 0;
    char *root = state_root(line, &err);
    buf_init(&names, 16u << 20);
    socket_dirs(root, dirs);
    for (size_t i = 0; dirs[i]; i++) {
        if (files_list(files_os(), dirs[i], &names, &err) != FILES_OK) {
            continue; /* no such folder, or not ours: no job of ours runs there */
        }
        for (const char *p = names.data; names.len > 0 && p < names.data + names.len;
             p += strlen(p) + 1) {
            size_t len = strlen(p);
            if (len <= 5 || strcmp(p + len - 5, ".sock") != 0) {
                continue;
            }
            char *name = xstrndup(p, len - 5);
            struct buf answer;
            buf_init(&answer, SIZE_MAX);
            enum control_answer result = control_socket_ask(dirs[i], name, &answer);
            if (result == CONTROL_SILENT ||
                (result == CONTROL_ANSWERED && put_answer_of(line, out, &answer))) {
                code = worse(code, report_silent(line, name));
            }
            found += result != CONTROL_ABSENT;
            buf_release(&answer);
            free(name);
        }
    }
    socket_dirs_free(dirs);
    buf_release(&names);
    free(root);
    if (found == 0 && !opts_bool(line->opts, "json")) {
        buf_puts(out, "no job runs on this machine\n");
    }
    return code;
}

/* A single word that is a job's name and no file. */
static bool is_name(const struct command_line *line) {
    struct err err = ERR_INIT;
    struct file *file = NULL;
    if (line->word_count != 1 || !identity_is_plain(line->words[0])) {
        return false;
    }
    enum files_result r = files_open_read(files_os(), line->words[0], &file, &err);
    if (r == FILES_OK) {
        file_close(file);
    }
    return r == FILES_ABSENT;
}

int cmd_status(struct command_line *line) {
    struct buf out;
    int code = EXIT_DONE;
    buf_init(&out, SIZE_MAX);
    if (line->word_count == 0) {
        code = status_all(line, &out);
    } else if (is_name(line)) {
        enum control_answer answer = ask_job(line, line->words[0], &out);
        if (answer == CONTROL_ABSENT) {
            code = usage_error(
                &line->log, "job_missing",
                "name its file or text: of a job that does not run only source and target know",
                "no job \"%s\" runs on this machine", line->words[0]);
        } else if (answer == CONTROL_SILENT) {
            code = report_silent(line, line->words[0]);
        }
    } else {
        struct jobs jobs;
        jobs_load(line, JOB_NEEDS_BOTH, &jobs);
        code = jobs.code;
        for (uint32_t i = 0; i < jobs.count; i++) {
            enum control_answer answer = ask_job(line, jobs.at[i]->name, &out);
            if (answer == CONTROL_ABSENT) {
                code = worse(code, status_asleep(line, jobs.at[i], &out));
            } else if (answer == CONTROL_SILENT) {
                code = worse(code, report_silent(line, jobs.at[i]->name));
            } else {
                code = worse(code, put_present(line, jobs.at[i], &out));
            }
        }
        jobs_release(&jobs);
    }
    code = worse(code, put_answer(&line->log, &out));
    buf_release(&out);
    return code;
}
