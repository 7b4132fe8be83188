/* A job as the user wrote it, checked against the registry and the tables of options: what job_new
 * needs. Pure but for put_in. Thread: the main thread; constant afterwards. */
#pragma once
#include "config/hide.h"
#include "config/identity.h"
#include "config/registry.h"
#include "config/rules.h"
#include "config/url.h"

struct job_spec {
    char name[JOB_ID_BYTES_MAX + 1]; /* the identity; "" when the text does not give one */
    const struct source_door *source;
    const struct sink_door *sink; /* NULL where only a source was given */
    struct url source_url, sink_url;
    struct opts *source_opts, *sink_opts; /* of the doors' own tables */
    struct opts *job_opts;                /* of job_options */
    const char **extra; /* the client library's: key, value, ..., NULL; borrowed strings */
    struct source_address source_address; /* borrow from the urls and opts above */
    struct sink_address sink_address;
    struct job_text rules; /* its spans are not valid any more */
    struct hide *hide;     /* what no message and no answer about this job may show */
};
/* Options of a job that belong to no door: on the source's URL, except job, which stands on the
 * sink's. */
extern const struct opt_spec job_source_options[];
extern const struct opt_spec job_sink_options[];

enum job_spec_need { JOB_NEEDS_BOTH, JOB_NEEDS_SOURCE /* a lone SOURCE is enough */ };

/* file: the path it was read from, NULL = typed. Mistakes are sorted. Never NULL; usable only
 * without mistakes. */
struct job_spec *job_spec_new(const char *text, size_t len, const char *file,
                              enum job_spec_need need, const struct put_in *put_in,
                              struct mistakes *mistakes);
void job_spec_free(struct job_spec *spec);
