/* `slots` and `drop`: what tailrace has made on a server, and its end. Only drop removes slots and
 * publications; it says what it will do and wants --yes. The target and its position stay. Thread:
 * main. */
#include <stdlib.h>

#include "cdc/source_call.h"
#include "config/cmd/control.h"
#include "config/cmd/ends.h"

static int slots_of(struct command_line *line, const struct job_spec *spec) {
    struct ends ends;
    struct err err = ERR_INIT;
    struct buf out;
    int code;
    ends_init(&ends, line, spec, &code);
    if (code != EXIT_DONE) {
        return code;
    }
    buf_init(&out, SIZE_MAX);
    if (ends_source(&ends, spec, rules_select, &spec->rules, &err) ||
        source_slots(ends.source, &out, &err)) {
        code = report_error(&ends.world.log, "ctl", &err);
    } else {
        if (out.len > 0 && out.data[out.len - 1] != '\n') {
            buf_putc(&out, '\n');
        }
        hide_text(spec->hide, &out);
        code = put_answer(&ends.world.log, &out);
    }
    buf_release(&out);
    ends_release(&ends);
    return code;
}

int cmd_slots(struct command_line *line) {
    struct jobs jobs;
    jobs_load(line, JOB_NEEDS_SOURCE, &jobs);
    int code = jobs.code;
    for (uint32_t i = 0; i < jobs.count; i++) {
        code = worse(code, slots_of(line, jobs.at[i]));
    }
    jobs_release(&jobs);
    return code;
}

static bool is_running(const struct command_line *line, const struct job_spec *spec) {
    struct err err = ERR_INIT;
    char *dirs[5];
    struct buf ignored;
    bool running = false;
    char *root = state_root(line, &err);
    buf_init(&ignored, SIZE_MAX);
    socket_dirs(root, dirs);
    for (size_t i = 0; dirs[i] && !running; i++) {
        running = control_socket_ask(dirs[i], spec->name, &ignored) != CONTROL_ABSENT;
    }
    socket_dirs_free(dirs);
    buf_release(&ignored);
    free(root);
    return running;
}

static int drop_job(struct command_line *line, const struct job_spec *spec) {
    struct ends ends;
    struct err err = ERR_INIT;
    struct buf out;
    int code;
    bool yes = opts_bool(line->opts, "yes");
    ends_init(&ends, line, spec, &code);
    if (code != EXIT_DONE) {
        return code;
    }
    if (yes && is_running(line, spec)) {
        err_set(&err, ERR_FATAL, "instance_running", "drop \"%s\": it is running on this machine",
                spec->name);
        err_cure(&err, "stop it first");
        err_exit(&err, EXIT_FENCED);
        ends_release(&ends);
        return report_error(&ends.world.log, "ctl", &err);
    }
    buf_init(&out, SIZE_MAX);
    if (ends_source(&ends, spec, rules_select, &spec->rules, &err) ||
        source_drop_plan(ends.source, &out, &err)) {
        code = report_error(&ends.world.log, "ctl", &err);
    } else if (out.len == 0) {
        buf_putf(&out, "-- the server has neither slot nor publication of job %s\n", spec->name);
        code = put_answer(&ends.world.log, &out);
    } else {
        if (out.data[out.len - 1] != '\n') {
            buf_putc(&out, '\n');
        }
        hide_text(spec->hide, &out);
        code = put_answer(&ends.world.log, &out);
        if (code == EXIT_DONE && !yes) {
            code = usage_error(&ends.world.log, "yes_missing", "tailrace drop JOB --yes",
                               "drop \"%s\": this would run; nothing was done", spec->name);
        } else if (code == EXIT_DONE && source_drop(ends.source, &err)) {
            code = report_error(&ends.world.log, "ctl", &err);
        } else if (code == EXIT_DONE) {
            log_info(&ends.world.log, "ctl", "dropped",
                     "the target keeps its rows and position; without the slot the job does not go "
                     "on from there");
        }
    }
    buf_release(&out);
    ends_release(&ends);
    return code;
}

int cmd_drop(struct command_line *line) {
    struct jobs jobs;
    jobs_load(line, JOB_NEEDS_SOURCE, &jobs);
    int code = jobs.code;
    for (uint32_t i = 0; i < jobs.count; i++) {
        const struct job_spec *spec = jobs.at[i];
        if (!spec->sink) {
            code = worse(code, usage_error(&line->log, "job_missing", "tailrace drop JOB --yes",
                                           "drop needs the whole job: its name says which slot"));
            continue;
        }
        code = worse(code, drop_job(line, spec));
    }
    jobs_release(&jobs);
    return code;
}
