/* Opening the two ends of a job for a question. Reads only. */
#include "config/cmd/ends.h"

#include "cdc/sink_call.h"
#include "cdc/source_call.h"

void ends_init(struct ends *e, struct command_line *line, const struct job_spec *spec, int *code) {
    struct err err = ERR_INIT;
    *e = (struct ends){ .source = NULL };
    *code = EXIT_DONE;
    if (job_world_init(&e->world, line, spec, NULL, (uint64_t)opts_int(line->opts, "memory"),
                       &err)) {
        *code = report_error(&line->log, "cli", &err);
    }
}

int ends_source(struct ends *e, const struct job_spec *spec, table_select_fn select,
                const void *rules, struct err *err) {
    if (source_open(spec->source->ops, &spec->source_address, &e->world.env, select, rules,
                    &e->source, err)) {
        e->source = NULL;
        return -1;
    }
    return 0;
}

int ends_sink(struct ends *e, const struct job_spec *spec, struct err *err) {
    struct sink_address address = spec->sink_address;
    address.put_logpos = spec->source->ops->put_logpos;
    if (sink_open(spec->sink->ops, &address, &e->world.env, &e->sink, err)) {
        e->sink = NULL;
        return -1;
    }
    return 0;
}

void ends_release(struct ends *e) {
    if (e->sink) {
        sink_close(e->sink);
    }
    if (e->source) {
        source_close(e->source);
    }
    job_world_release(&e->world);
}

static void put_url(struct buf *out, const struct url *url) {
    buf_putf(out, "%s:", url->scheme);
    if (url->has_authority) {
        buf_puts(out, "//");
        buf_puts(out, url->hosts.put_in ? "${..}" : url->hosts.text ? url->hosts.text : "");
    }
    if (url->path.text) {
        buf_puts(out, url->path.put_in ? "/${..}" : url->path.text);
    }
}

void put_source_name(struct buf *out, const struct job_spec *spec) {
    put_url(out, &spec->source_url);
}
void put_sink_name(struct buf *out, const struct job_spec *spec) { put_url(out, &spec->sink_url); }
