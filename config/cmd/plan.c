/* `plan`: what a job would do and what is missing for it, with the SQL to paste. Starts nothing,
 * writes nothing. Ends with EXIT_PLAN when something is missing. Thread: main. */
#include <stdlib.h>
#include <string.h>

#include "cdc/base/escape.h"
#include "cdc/base/json.h"
#include "cdc/sink_call.h"
#include "cdc/source_call.h"
#include "config/cmd/ends.h"
#include "engine/position.h"

/* The selector that counts which rules meet a table. */
struct counting_rules {
    const struct job_text *rules;
    uint32_t *hits; /* one a rule */
};

static void counting_select(const void *rules, const char *space, const char *name,
                            struct table_choice *out) {
    const struct counting_rules *c = rules;
    for (uint32_t i = 0; i < c->rules->rule_count; i++) {
        c->hits[i] += rule_matches(&c->rules->rules[i], space, name);
    }
    rules_select(c->rules, space, name, out);
}

/* All that is found out. */
struct plan {
    const struct job_spec *spec;
    struct source_catalogue catalogue;
    struct source_findings source_findings, sink_findings;
    struct sink_description target;
    struct sink_state state;
    struct counting_rules counting;
    bool missing; /* something fatal */
};

/* Would the log start, or go on, from what the target knows? The source's own decision, creating
 * nothing. */
static int ask_start(struct plan *p, struct ends *e, struct err *err) {
    struct stored_position stored = { 0 };
    struct source_start look = { .knows = p->state.knows, .look_only = true };
    int rc = 0;
    if (look.knows == TARGET_POSITION) {
        rc = position_decode(p->state.position, e->source->ops, &stored, err);
        look.applied = stored.applied;
        look.resume = stored.resume;
        look.lineage = stored.lineage;
    }
    struct source_started *nothing = xcalloc(1, sizeof *nothing);
    if (rc == 0) {
        look.temporary = !e->sink->ops->owns_position;
        rc = source_start(e->source, &look, nothing, err);
    }
    free(nothing);
    stored_position_release(&stored);
    p->missing = p->missing || rc;
    return rc;
}

static bool any_fatal(const struct source_findings *f) {
    bool fatal = false;
    for (uint32_t i = 0; i < f->count; i++) {
        fatal = fatal || f->at[i].fatal;
    }
    return fatal;
}

static int ask(struct plan *p, struct ends *e, struct err *err) {
    const struct job_spec *spec = p->spec;
    int rc = ends_source(e, spec, counting_select, &p->counting, err);
    if (rc == 0) {
        rc = source_examine(e->source, &p->source_findings, err);
    }
    if (rc == 0) {
        rc = source_catalogue(e->source, &p->catalogue, err);
    }
    if (rc == 0) {
        rc = ends_sink(e, spec, err);
    }
    if (rc == 0) {
        rc = sink_examine(e->sink, &p->sink_findings, err);
    }
    if (rc == 0) {
        rc = sink_peek(e->sink, &p->state, err);
    }
    if (rc == 0 && !any_fatal(&p->sink_findings)) {
        rc = sink_describe(e->sink, &p->catalogue, &p->target, err);
    }
    p->missing = p->missing || any_fatal(&p->source_findings) || any_fatal(&p->sink_findings) ||
                 any_fatal(&p->target.findings);
    for (uint32_t i = 0; i < p->catalogue.count; i++) {
        p->missing = p->missing || !p->catalogue.tables[i].usable;
    }
    return rc || p->missing ? rc : ask_start(p, e, err);
}

static const char *first_read(const struct plan *p, const struct source_table *t) {
    if (!t->usable) {
        return "missing";
    }
    if (strcmp(opts_text(p->spec->source_opts, "snapshot"), "never") == 0) {
        return "never";
    }
    return t->schema->key_count > 0 && t->schema->key_orderable ? "ranges" : "one chunk";
}

static void put_key(struct buf *out, const struct schema *schema) {
    for (uint16_t i = 0; i < schema->key_count; i++) {
        const char *name = schema->columns[schema->key[i]].name;
        buf_puts(out, i ? "," : "");
        escape_put(out, name, strlen(name));
    }
    buf_puts(out, schema->key_count ? "" : "-");
}

static void put_size(struct buf *out, uint64_t bytes) {
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    size_t unit = 0;
    while (bytes >= 10240 && unit + 1 < ARRAY_COUNT(units)) {
        bytes /= 1024;
        unit++;
    }
    buf_putf(out, "%llu %s", (unsigned long long)bytes, units[unit]);
}

static bool rows_known(const struct source_table *t) {
    return t->rows_estimate || !t->bytes_estimate;
}

static void put_tables(struct buf *out, const struct plan *p) {
    struct buf cell;
    buf_init(&cell, SIZE_MAX);
    int width = 5;
    for (uint32_t i = 0; i < p->catalogue.count; i++) {
        int n = (int)strlen(p->catalogue.tables[i].schema->label);
        width = n > width && n <= 60 ? n : width;
    }
    buf_putf(out, "%-*s  %12s  %10s  %-10s  %s\n", width, "table", "rows (about)", "size",
             "first read", "key");
    for (uint32_t i = 0; i < p->catalogue.count; i++) {
        const struct source_table *t = &p->catalogue.tables[i];
        buf_clear(&cell);
        escape_put(&cell, t->schema->label, strlen(t->schema->label));
        buf_putf(out, "%-*s  ", width, buf_cstr(&cell));
        buf_clear(&cell);
        if (rows_known(t)) {
            buf_putf(&cell, "%llu", (unsigned long long)t->rows_estimate);
        } else {
            buf_puts(&cell, "unknown");
        }
        buf_putf(out, "%12s  ", buf_cstr(&cell));
        buf_clear(&cell);
        put_size(&cell, t->bytes_estimate);
        buf_putf(out, "%10s  %-10s  ", buf_cstr(&cell), first_read(p, t));
        put_key(out, t->schema);
        buf_puts(out, t->schema->append ? "  append" : "");
        if (t->usable && t->note[0]) {
            buf_puts(out, "  (");
            escape_put(out, t->note, strlen(t->note));
            buf_putc(out, ')');
        }
        buf_putc(out, '\n');
    }
    buf_release(&cell);
}

static void put_lines(struct buf *out, const char *text) {
    while (*text) {
        size_t n = strcspn(text, "\n");
        buf_puts(out, "    ");
        escape_put(out, text, n);
        buf_putc(out, '\n');
        text += n + (text[n] == '\n');
    }
}

static void put_findings(struct buf *out, const struct source_findings *f, bool fatal) {
    for (uint32_t i = 0; i < f->count; i++) {
        if (f->at[i].fatal == fatal) {
            buf_puts(out, fatal ? "missing: " : "note: ");
            escape_put(out, f->at[i].what, strlen(f->at[i].what));
            buf_putc(out, '\n');
            put_lines(out, f->at[i].cure);
        }
    }
}

/* What is odd about a rule, or NULL. */
static const char *rule_warning(const struct plan *p, uint32_t i) {
    if (p->counting.hits[i] == 0) {
        return "matches no table";
    }
    return rule_keeps_for_nothing(&p->spec->rules, i)
               ? "keeps what no rule before it skips; to copy only some tables put `*.*: skip` "
                 "first"
               : NULL;
}

static const char *target_knows(const struct plan *p) {
    switch (p->state.knows) {
    case TARGET_NOTHING:
        return "nothing";
    case TARGET_CLAIM:
        return "claim";
    case TARGET_POSITION:
        return "position";
    }
    return "nothing";
}

static void put_text(struct buf *out, const struct plan *p) {
    buf_putf(out, "job %s: ", p->spec->name);
    put_source_name(out, p->spec);
    buf_puts(out, " -> ");
    put_sink_name(out, p->spec);
    buf_puts(out, "\nsource: ");
    escape_put(out, p->catalogue.server, strlen(p->catalogue.server));
    if (!p->spec->sink->ops->owns_position) {
        buf_puts(out, "\ntarget: keeps no position: every start begins anew, at-least-once\n\n");
    } else if (p->state.knows == TARGET_POSITION) {
        buf_putf(
            out,
            "\ntarget: has a position (epoch %llu, commit %llu): the job goes on from there\n\n",
            (unsigned long long)p->state.epoch, (unsigned long long)p->state.seq);
    } else {
        buf_puts(out, "\ntarget: has no position yet: the tables are read first\n\n");
    }
    put_tables(out, p);
    buf_putc(out, '\n');
    if (p->target.lines.len) {
        buf_put(out, p->target.lines.data, p->target.lines.len);
        buf_putc(out, '\n');
    }
    put_findings(out, &p->source_findings, true);
    put_findings(out, &p->sink_findings, true);
    put_findings(out, &p->target.findings, true);
    for (uint32_t i = 0; i < p->catalogue.count; i++) {
        const struct source_table *t = &p->catalogue.tables[i];
        if (!t->usable) {
            buf_puts(out, "missing: table \"");
            escape_put(out, t->schema->label, strlen(t->schema->label));
            buf_puts(out, "\": ");
            escape_put(out, t->why, strlen(t->why));
            buf_puts(out, "; one of:\n");
            put_lines(out, t->cure);
        }
    }
    put_findings(out, &p->source_findings, false);
    put_findings(out, &p->sink_findings, false);
    put_findings(out, &p->target.findings, false);
    for (uint32_t i = 0; i < p->spec->rules.rule_count; i++) {
        const char *warning = rule_warning(p, i);
        if (warning) {
            buf_putf(out, "warning: rule \"%s\" in line %u %s\n", p->spec->rules.rules[i].pattern,
                     p->spec->rules.rules[i].place.line, warning);
        }
    }
    buf_puts(out, p->missing ? "not ready: mend what is missing, then plan again\n" : "ready\n");
}

static void put_member(struct buf *out, const char *key, const char *value) {
    json_put_cstr(out, key);
    buf_putc(out, ':');
    (void)json_put_string(out, value, strlen(value)); /* names that are no UTF-8 become U+FFFD */
}

static void put_json_findings(struct buf *out, const struct source_findings *f, bool *any) {
    for (uint32_t i = 0; i < f->count; i++) {
        buf_puts(out, *any ? ",{" : "{");
        *any = true;
        buf_putf(out, "\"missing\":%s,", f->at[i].fatal ? "true" : "false");
        put_member(out, "what", f->at[i].what);
        buf_putc(out, ',');
        put_member(out, "cure", f->at[i].cure);
        buf_putc(out, '}');
    }
}

static void put_json_tables(struct buf *out, const struct plan *p) {
    for (uint32_t i = 0; i < p->catalogue.count; i++) {
        const struct source_table *t = &p->catalogue.tables[i];
        buf_puts(out, i ? ",{" : "{");
        put_member(out, "table", t->schema->label);
        buf_puts(out, ",\"rows\":");
        if (rows_known(t)) {
            buf_putf(out, "%llu", (unsigned long long)t->rows_estimate);
        } else {
            buf_puts(out, "null");
        }
        buf_putf(out, ",\"bytes\":%llu,\"key\":[", (unsigned long long)t->bytes_estimate);
        for (uint16_t k = 0; k < t->schema->key_count; k++) {
            const char *name = t->schema->columns[t->schema->key[k]].name;
            buf_puts(out, k ? "," : "");
            (void)json_put_string(out, name, strlen(name));
        }
        buf_putf(out, "],\"append\":%s,\"usable\":%s,", t->schema->append ? "true" : "false",
                 t->usable ? "true" : "false");
        put_member(out, "first_read", first_read(p, t));
        buf_putc(out, ',');
        put_member(out, "note", t->usable ? t->note : t->why);
        buf_putc(out, ',');
        put_member(out, "cure", t->usable ? "" : t->cure);
        buf_putc(out, '}');
    }
}

static void put_json(struct buf *out, const struct plan *p) {
    bool any = false;
    buf_putc(out, '{');
    put_member(out, "job", p->spec->name);
    buf_putc(out, ',');
    put_member(out, "server", p->catalogue.server);
    buf_putc(out, ',');
    put_member(out, "target", target_knows(p));
    buf_putf(out, ",\"ready\":%s,\"tables\":[", p->missing ? "false" : "true");
    put_json_tables(out, p);
    buf_puts(out, "]");
    if (p->target.json.len) {
        buf_puts(out, ",\"target_tables\":");
        buf_put(out, p->target.json.data, p->target.json.len);
    }
    buf_puts(out, ",\"findings\":[");
    put_json_findings(out, &p->source_findings, &any);
    put_json_findings(out, &p->sink_findings, &any);
    put_json_findings(out, &p->target.findings, &any);
    buf_puts(out, "],\"warnings\":[");
    any = false;
    for (uint32_t i = 0; i < p->spec->rules.rule_count; i++) {
        const char *warning = rule_warning(p, i);
        if (warning) {
            buf_puts(out, any ? ",{" : "{");
            any = true;
            put_member(out, "rule", p->spec->rules.rules[i].pattern);
            buf_putf(out, ",\"line\":%u,", p->spec->rules.rules[i].place.line);
            put_member(out, "what", warning);
            buf_putc(out, '}');
        }
    }
    buf_puts(out, "]}\n");
}

static int plan_job(struct command_line *line, const struct job_spec *spec) {
    struct ends ends;
    int code;
    ends_init(&ends, line, spec, &code);
    if (code != EXIT_DONE) {
        return code;
    }
    struct err err = ERR_INIT;
    struct plan *p = xcalloc(1, sizeof *p);
    p->spec = spec;
    sink_description_init(&p->target);
    p->counting.rules = &spec->rules;
    p->counting.hits = xcalloc((size_t)spec->rules.rule_count + 1, sizeof *p->counting.hits);
    ends.world.log.job = spec->name;
    int rc = ask(p, &ends, &err);
    if (rc == 0 || p->missing) {
        struct buf out;
        buf_init(&out, SIZE_MAX);
        if (opts_bool(line->opts, "json")) {
            put_json(&out, p);
            hide_json(spec->hide, &out);
        } else {
            put_text(&out, p);
            hide_text(spec->hide, &out);
        }
        code = put_answer(&ends.world.log, &out);
        buf_release(&out);
        code = p->missing ? worse(code, EXIT_PLAN) : code;
    }
    if (rc) {
        code = worse(code, report_error(&ends.world.log, "plan", &err));
    }
    ends_release(&ends);
    source_catalogue_release(&p->catalogue);
    sink_state_release(&p->state);
    sink_description_release(&p->target);
    free(p->counting.hits);
    free(p);
    return code;
}

int cmd_plan(struct command_line *line) {
    struct jobs jobs;
    jobs_load(line, JOB_NEEDS_BOTH, &jobs);
    int code = jobs.code;
    for (uint32_t i = 0; i < jobs.count; i++) {
        code = worse(code, plan_job(line, jobs.at[i]));
    }
    jobs_release(&jobs);
    return code;
}
