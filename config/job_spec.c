/* From syntax to a job: schemes are looked up, options checked against their tables, the identity
 * is chosen. A key of the source's URL is ours, else the connector's, else its client library's,
 * else a mistake; every mistake is collected. */
#include "config/job_spec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct opt_spec job_source_options[] = {
    { .key = "chunk_rows",
      .type = OPT_COUNT,
      .fallback = "100000",
      .min = 1000,
      .max = 10000000,
      .doc = "rows of a key range that are read under one snapshot" },
    { .key = "row_max",
      .type = OPT_BYTES,
      .min = 1 << 20,
      .max = INT64_C(1) << 30,
      .doc = "most bytes of a row's values, as the source sends them (default 64MiB; 8MiB with "
             "--memory below 128MiB)" },
    { .key = "spill_max",
      .type = OPT_BYTES,
      .min = 1 << 20,
      .doc = "most disk for rows that wait (default 20GiB, or a quarter of the file system)" },
    { .key = NULL },
};
const struct opt_spec job_sink_options[] = {
    { .key = "job",
      .type = OPT_TEXT,
      .doc = "name of the job (default: the file's name, else DATABASE_SCHEME)" },
    { .key = NULL },
};
static const struct opt_spec no_options[] = { { .key = NULL } };

static bool table_has(const struct opt_spec *table, const char *key) {
    for (; table->key; table++) {
        if (strcmp(table->key, key) == 0) {
            return true;
        }
    }
    return false;
}

/* opts_set quotes the value that it refuses: one that was put in is not to be seen. */
static void set_option(struct opts *opts, const struct url_key *key, struct mistakes *m) {
    struct err err = ERR_INIT;
    if (opts_set(opts, key->key, key->value.text, &err) == 0) {
        return;
    }
    if (key->value.put_in) {
        mistake_add(m, key->value.place, err.code, err.cure,
                    "option \"%s\": the value that %.200s gave is not accepted", key->key,
                    key->value.written);
    } else if (key->doubt || strpbrk(key->value.text, "@=")) { /* half a password? */
        mistake_add(m, key->value.place, err.code, err.cure,
                    "option \"%s\": its value is not accepted", key->key);
    } else {
        mistake_add_err(m, key->value.place, &err);
    }
}

static void unknown_key(const struct url_key *key, const char *of, const struct opt_spec *ours,
                        const struct opt_spec *theirs, const char *client, struct mistakes *m) {
    const char *words[128];
    size_t count = 0;
    struct buf cure;
    buf_init(&cure, SIZE_MAX);
    for (int i = 0; i < 2; i++) {
        for (const struct opt_spec *o = i ? ours : theirs; o->key && count < ARRAY_COUNT(words);
             o++) {
            buf_putf(&cure, "%s%s", count ? ", " : "the options are: ", o->key);
            words[count++] = o->key;
        }
    }
    if (client) {
        buf_putf(&cure, ", and those of %s", client);
    }
    const char *nearest = opt_nearest(key->key, words, count);
    if (key->doubt) {
        mistake_add(m, key->place, "option_unknown", buf_cstr(&cure),
                    "unknown option of \"%s:\"; write & in a value as %%26, @ as %%40", of);
    } else if (nearest) {
        mistake_add(m, key->place, "option_unknown", buf_cstr(&cure),
                    "unknown option \"%.80s\" of \"%s:\" (did you mean \"%s\"?)", key->key, of,
                    nearest);
    } else {
        mistake_add(m, key->place, "option_unknown", buf_cstr(&cure),
                    "unknown option \"%.80s\" of \"%s:\"", key->key, of);
    }
    buf_release(&cure);
}

static bool given_before(const struct url *url, uint32_t index, struct mistakes *m) {
    for (uint32_t i = 0; i < index; i++) {
        if (strcmp(url->keys[i].key, url->keys[index].key) == 0) {
            if (url->keys[index].doubt) {
                mistake_add(m, url->keys[index].place, "option_twice", NULL,
                            "an option is given twice; write & in a value as %%26");
            } else {
                mistake_add(m, url->keys[index].place, "option_twice", NULL,
                            "option \"%.80s\" is given twice", url->keys[index].key);
            }
            return true;
        }
    }
    return false;
}

static bool is_taken(const struct source_door *door, const char *key) {
    for (const char *const *t = door->taken; t && *t; t++) {
        if (strcmp(*t, key) == 0) {
            return true;
        }
    }
    return false;
}

static void source_keys(struct job_spec *s, struct mistakes *m) {
    const struct source_door *door = s->source;
    size_t extra = 0;
    s->extra = xcalloc((size_t)s->source_url.key_count * 2 + 1, sizeof *s->extra);
    for (uint32_t i = 0; i < s->source_url.key_count; i++) {
        const struct url_key *key = &s->source_url.keys[i];
        if (given_before(&s->source_url, i, m) || !key->value.text) {
            continue;
        }
        if (table_has(job_source_options, key->key)) {
            set_option(s->job_opts, key, m);
        } else if (table_has(door->ops->opts, key->key)) {
            set_option(s->source_opts, key, m);
        } else if (is_taken(door, key->key)) {
            mistake_add(m, key->place, "option_taken", "remove it",
                        "option \"%s\" is set by tailrace itself", key->key);
        } else if (door->client_key && door->client_key(key->key)) {
            s->extra[extra++] = key->key;
            s->extra[extra++] = key->value.text;
        } else {
            unknown_key(key, door->scheme, job_source_options, door->ops->opts, door->client, m);
        }
    }
}

static void sink_keys(struct job_spec *s, struct mistakes *m) {
    for (uint32_t i = 0; i < s->sink_url.key_count; i++) {
        const struct url_key *key = &s->sink_url.keys[i];
        if (given_before(&s->sink_url, i, m) || !key->value.text) {
            continue;
        }
        if (table_has(job_sink_options, key->key)) {
            if (key->value.text[0] == '\0') {
                mistake_add(m, key->value.place, "option_value", NULL,
                            "option \"%s\": its value is empty", key->key);
            } else if (key->value.put_in) { /* a name is printed, what ${..} gives is not */
                mistake_add(m, key->value.place, "job_name", "write the name itself: ?job=NAME",
                            "the job's name would come from %.200s", key->value.written);
            } else {
                identity_of(key->value.text, s->name);
            }
        } else if (table_has(s->sink->ops->opts, key->key)) {
            set_option(s->sink_opts, key, m);
        } else {
            unknown_key(key, s->sink->scheme, job_sink_options, s->sink->ops->opts, NULL, m);
        }
    }
}

static void put_schemes(char *out, size_t cap, bool source) {
    size_t count = source ? source_door_count : sink_door_count;
    snprintf(out, cap, "the %ss of this version:", source ? "source" : "sink");
    for (size_t i = 0; i < count; i++) {
        size_t used = strlen(out);
        snprintf(out + used, cap - used, "%s %s", i ? "," : "",
                 source ? source_doors[i].scheme : sink_doors[i].scheme);
    }
}

static void scheme_refused(const struct url *url, bool source, struct mistakes *m) {
    const char *what = source ? "source" : "sink";
    char cure[200];
    put_schemes(cure, sizeof cure, source);
    const char *nearest = scheme_nearest(url->scheme, source);
    bool other_way =
        source ? sink_door_find(url->scheme) != NULL : source_door_find(url->scheme) != NULL;
    if (scheme_is_planned(url->scheme) || other_way) {
        mistake_add(m, url->place, "not_built", cure, "%s \"%.40s\": not built yet in this version",
                    what, url->scheme);
    } else if (url->doubt) {
        mistake_add(m, url->place, "scheme_unknown", cure, "this is no %s", what);
    } else if (nearest) {
        mistake_add(m, url->place, "scheme_unknown", cure,
                    "unknown %s \"%.40s\" (did you mean \"%s\"?)", what, url->scheme, nearest);
    } else {
        mistake_add(m, url->place, "scheme_unknown", cure, "unknown %s \"%.40s\"", what,
                    url->scheme);
    }
}

static void name_job(struct job_spec *s, const char *file, struct mistakes *m) {
    if (s->name[0]) {
        return;
    }
    if (file) {
        identity_of_file(file, s->name);
        return;
    }
    const struct url_part *part = &s->source_url.path;
    const char *database = part->text && part->text[0] ? part->text + 1 : "";
    if (!database[0]) { /* what libpq would take */
        part = &s->source_url.user;
        database = part->text ? part->text : "postgres";
    }
    if (part->put_in && s->sink) { /* a name is printed, what ${..} gives is not */
        mistake_add(m, part->place, "job_name", "name the job: ?job=NAME on the sink",
                    "the job's name would come from %.200s",
                    part->written ? part->written : "${..}");
    }
    char *name = xasprintf("%s_%s", database, s->sink_url.scheme ? s->sink_url.scheme : "none");
    identity_of(name, s->name);
    free(name);
}

static void addresses(struct job_spec *s) {
    const struct url *url = &s->source_url;
    s->source_address = (struct source_address){
        .scheme = url->scheme,
        .hosts = url->hosts.text,
        .user = url->user.text,
        .secret = url->secret.text,
        .path = url->path.text && url->path.text[1]
                    ? url->path.text + 1
                    : NULL, /* a database's name, without the slash */
        .opts = s->source_opts,
        .extra = s->extra,
        .job = s->name,
    };
    url = &s->sink_url;
    s->sink_address = (struct sink_address){
        .scheme = url->scheme,
        .hosts = url->hosts.text,
        .path = url->path.text,
        .user = url->user.text,
        .secret = url->secret.text,
        .opts = s->sink_opts,
        .job = s->name,
    };
}

/* --- what is never shown --- */

static const char *shown_as(const struct url_part *part) {
    return strpbrk(part->written, "\"\\@&") ? "${..}" : part->written;
}

/* A part that ${..} gave some of, and its pieces: a database without its slash, each of some hosts,
 * a port. */
static void hide_part(struct hide *hide, const struct url_part *part) {
    if (!part->text || !part->put_in) {
        return;
    }
    hide_add(hide, part->text, shown_as(part));
    for (const char *p = part->text; *p;) {
        size_t n = strcspn(p, ",:[]/");
        char *piece = xstrndup(p, n);
        hide_add(hide, piece, "${..}");
        explicit_bzero(piece, n);
        free(piece);
        p += n + (p[n] != '\0');
    }
}

static void hide_secret(struct hide *hide, const struct url *url, const struct url_part *part) {
    const char *open[] = { url->scheme, url->user.put_in ? NULL : url->user.text,
                           url->hosts.put_in ? NULL : url->hosts.text,
                           url->path.text && !url->path.put_in ? url->path.text + 1 : NULL };
    for (size_t i = 0; part->text && !part->put_in && i < ARRAY_COUNT(open); i++) {
        if (open[i] && strcmp(open[i], part->text) == 0) {
            return; /* postgres:postgres@: what the user shows beside it is no secret */
        }
    }
    if (part->text) {
        hide_add(hide, part->text, part->put_in ? shown_as(part) : "(secret)");
    }
}

/* Options of ours that are a number or one of some words are said as such once they are accepted;
 * texts are not. */
static bool is_plain_option(const struct opt_spec *table, const char *key) {
    for (; table && table->key; table++) {
        if (strcmp(table->key, key) == 0) {
            return table->type != OPT_TEXT && !table->secret;
        }
    }
    return false;
}

static void hide_url(struct hide *hide, const struct url *url, const struct opt_spec *ours,
                     const struct opt_spec *theirs) {
    hide_part(hide, &url->user);
    hide_part(hide, &url->hosts);
    hide_part(hide, &url->path);
    hide_secret(hide, url, &url->secret);
    for (uint32_t i = 0; i < url->key_count; i++) {
        const struct url_key *key = &url->keys[i];
        if (url_key_is_secret(key->key)) {
            hide_secret(hide, url, &key->value);
        } else if (!is_plain_option(ours, key->key) && !is_plain_option(theirs, key->key)) {
            hide_part(hide, &key->value);
        }
    }
}

struct job_spec *job_spec_new(const char *text, size_t len, const char *file,
                              enum job_spec_need need, const struct put_in *put_in,
                              struct mistakes *mistakes) {
    struct job_spec *s = xcalloc(1, sizeof *s);
    struct span lone = { .at = text, .len = len, .place = { 1, 1 } };
    s->job_opts = opts_new(job_source_options);
    if (need == JOB_NEEDS_SOURCE && !file && !memmem(text, len, "->", 2)) {
        s->rules.source = lone;
    } else {
        job_text_parse(text, len, mistakes, &s->rules);
    }
    if (s->rules.source.at) {
        url_parse(&s->rules.source, put_in, mistakes, &s->source_url);
    }
    if (s->rules.sink.at) {
        url_parse(&s->rules.sink, put_in, mistakes, &s->sink_url);
    }
    if (s->source_url.scheme) {
        s->source = source_door_find(s->source_url.scheme);
        if (s->source) {
            s->source_opts = opts_new(s->source->ops->opts ? s->source->ops->opts : no_options);
            source_keys(s, mistakes);
        } else {
            scheme_refused(&s->source_url, true, mistakes);
        }
    }
    if (s->sink_url.scheme) {
        s->sink = sink_door_find(s->sink_url.scheme);
        if (s->sink) {
            s->sink_opts = opts_new(s->sink->ops->opts ? s->sink->ops->opts : no_options);
            sink_keys(s, mistakes);
        } else {
            scheme_refused(&s->sink_url, false, mistakes);
        }
    }
    name_job(s, file, mistakes);
    s->hide = hide_new();
    hide_url(s->hide, &s->source_url, job_source_options, s->source ? s->source->ops->opts : NULL);
    hide_url(s->hide, &s->sink_url, job_sink_options, s->sink ? s->sink->ops->opts : NULL);
    addresses(s);
    s->rules.source = s->rules.sink = (struct span){ .at = NULL };
    mistakes_sort(mistakes);
    return s;
}

void job_spec_free(struct job_spec *s) {
    if (!s) {
        return;
    }
    opts_free(s->source_opts);
    opts_free(s->sink_opts);
    opts_free(s->job_opts);
    free(s->extra);
    url_release(&s->source_url);
    url_release(&s->sink_url);
    hide_free(s->hide);
    job_text_release(&s->rules);
    free(s);
}
