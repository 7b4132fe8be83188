/* Source and sink of a job, opened to be asked and not to run: for plan, status, slots and drop.
 * Thread: main. */
#pragma once
#include "config/cmd/cmd.h"

struct ends {
    struct job_world world;
    struct source *source; /* NULL: not opened, or it failed */
    struct sink *sink;
};
void ends_init(struct ends *e, struct command_line *line, const struct job_spec *spec, int *code);
int ends_source(struct ends *e, const struct job_spec *spec, table_select_fn select,
                const void *rules, struct err *err);
int ends_sink(struct ends *e, const struct job_spec *spec, struct err *err);
void ends_release(struct ends *e);
/* "postgres://host:5432/db": without user, secret and options. Appends. */
void put_source_name(struct buf *out, const struct job_spec *spec);
void put_sink_name(struct buf *out, const struct job_spec *spec);
