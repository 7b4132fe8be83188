/* See ice_plan.h. */
#include "sinks/iceberg/ice_plan.h"

#include <stdlib.h>
#include <string.h>

#include "cdc/base/escape.h"
#include "cdc/base/json.h"
#include "cdc/value.h"
#include "sinks/iceberg/ice_metadata.h"
#include "sinks/iceberg/ice_object.h"
#include "sinks/iceberg/ice_partition.h"

enum { NAMES_SHOWN = 4, FORMS_MAX = 64 };
#define US_1970_TO_2000 INT64_C(946684800000000)

/* Names with the first few shown. */
struct names {
    struct buf shown;
    uint32_t count;
};

/* A type of the source and what it is stored as. */
struct form {
    char *text; /* "numeric(14,2) -> decimal(14,2)" */
    uint32_t columns;
};

/* Tables that are partitioned alike. */
struct layout {
    char *fields; /* "id_bucket, t_day"; "" = not at all */
    struct names tables;
};

enum suspicion { SUSPECT_TIME, SUSPECT_DECIMAL, SUSPECT_DAYTIME, SUSPECT_LIST, SUSPECT_COUNT };

struct planning {
    const struct ice_plan_request *req;
    struct sink_description *out;
    struct form forms[FORMS_MAX];
    uint32_t form_count, forms_left_out;
    struct layout *layouts;
    uint32_t layout_count;
    uint32_t suspects[SUSPECT_COUNT];
    struct names suspect, options, keyless, other_layout, sorted, other_order;
};

static void add_name(struct names *n, const char *name, const char *between) {
    if (n->count == 0) {
        buf_init(&n->shown, SIZE_MAX);
    }
    if (n->count < NAMES_SHOWN) {
        buf_puts(&n->shown, n->count ? between : "");
        escape_put(&n->shown, name, strlen(name));
    }
    n->count++;
}

static const char *names_text(struct names *n) {
    if (n->count > NAMES_SHOWN) {
        buf_putf(&n->shown, " and %u more", n->count - NAMES_SHOWN);
        n->count = NAMES_SHOWN;
    }
    return buf_cstr(&n->shown);
}

static void names_release(struct names *n) {
    if (n->shown.data) {
        buf_release(&n->shown);
    }
}

static struct source_finding *new_finding(struct planning *p, bool fatal) {
    struct source_findings *f = &p->out->findings;
    if (f->count == ARRAY_COUNT(f->at)) {
        return NULL;
    }
    f->at[f->count] = (struct source_finding){ .fatal = fatal };
    return &f->at[f->count++];
}

/* What a commit would stop with, said before. */
static void take_error(struct planning *p, const char *label, struct err *err) {
    struct source_finding *f = new_finding(p, true);
    if (f && !strstr(err->text, label)) {
        snprintf(f->what, sizeof f->what, "table \"%s\": ", label);
    }
    if (f) {
        escape_append(f->what, sizeof f->what, err->text, strlen(err->text));
        escape_append(f->cure, sizeof f->cure, err->cure, strlen(err->cure));
    }
    err_clear(err);
}

/* ---- columns ---- */

static void put_type(struct buf *out, const struct lake_type *type) {
    struct lake_type one = *type;
    if (type->kind == LAKE_LIST) {
        one.kind = type->element;
        buf_puts(out, "list<");
    }
    lake_type_put_name(out, &one);
    buf_puts(out, type->kind == LAKE_LIST ? ">" : "");
}

static void add_form(struct planning *p, const struct column_def *c, const char *stored) {
    struct buf from;
    buf_init(&from, SIZE_MAX);
    if (c->source_type && c->source_type[0]) {
        buf_puts(&from, c->source_type);
    } else {
        type_put_name(&from, &c->type);
    }
    char *text = xasprintf("%s -> %s", buf_cstr(&from), stored);
    buf_release(&from);
    for (uint32_t i = 0; i < p->form_count; i++) {
        if (strcmp(p->forms[i].text, text) == 0) {
            p->forms[i].columns++;
            free(text);
            return;
        }
    }
    if (p->form_count == FORMS_MAX) {
        p->forms_left_out++;
        free(text);
        return;
    }
    p->forms[p->form_count++] = (struct form){ .text = text, .columns = 1 };
}

/* Types of the lake that cannot say all that a database's can. */
static void suspect(struct planning *p, const struct schema *schema, const struct column_def *c,
                    const struct lake_type *type) {
    enum lake_kind kind = type->kind == LAKE_LIST ? type->element : type->kind;
    bool is[SUSPECT_COUNT] = {
        [SUSPECT_TIME] = kind == LAKE_DATE || kind == LAKE_TIMESTAMP || kind == LAKE_TIMESTAMPTZ,
        [SUSPECT_DECIMAL] = kind == LAKE_DECIMAL,
        [SUSPECT_DAYTIME] = kind == LAKE_TIME,
        [SUSPECT_LIST] = type->kind == LAKE_LIST,
    };
    bool any = false;
    for (int i = 0; i < SUSPECT_COUNT; i++) {
        p->suspects[i] += is[i];
        any = any || is[i];
    }
    if (any) {
        char *full = xasprintf("%s.%s", schema->label, c->name);
        add_name(&p->suspect, full, ", ");
        add_name(&p->options, full, ",");
        free(full);
    }
}

static void describe_columns(struct planning *p, const struct schema *schema,
                             const struct ice_schema *s) {
    struct buf *json = &p->out->json;
    struct buf stored;
    buf_init(&stored, SIZE_MAX);
    buf_puts(json, "\"columns\":{");
    for (uint16_t i = 0; i < schema->column_count; i++) {
        const struct column_def *c = &schema->columns[i];
        int at = ice_schema_find(s, c->name);
        if (at < 0) {
            continue;
        }
        buf_clear(&stored);
        put_type(&stored, &s->fields[at].type);
        add_form(p, c, buf_cstr(&stored));
        suspect(p, schema, c, &s->fields[at].type);
        buf_puts(json, i ? "," : "");
        (void)json_put_string(json, c->name, strlen(c->name));
        buf_puts(json, ":");
        json_put_cstr(json, buf_cstr(&stored));
    }
    buf_puts(json, "}");
    buf_release(&stored);
}

/* ---- partitions ---- */

static void add_layout(struct planning *p, const char *fields, const char *label) {
    uint32_t i = 0;
    while (i < p->layout_count && strcmp(p->layouts[i].fields, fields) != 0) {
        i++;
    }
    if (i == p->layout_count) {
        p->layouts = xrealloc(p->layouts, (p->layout_count + 1) * sizeof *p->layouts);
        p->layouts[p->layout_count++] = (struct layout){ .fields = xstrdup(fields) };
    }
    add_name(&p->layouts[i].tables, label, ", ");
}

static void describe_spec(struct planning *p, const struct schema *schema,
                          const struct ice_spec *spec) {
    struct buf fields;
    buf_init(&fields, SIZE_MAX);
    buf_puts(&p->out->json, ",\"partition\":[");
    for (uint32_t i = 0; i < spec->field_count; i++) {
        buf_puts(&fields, i ? ", " : "");
        buf_puts(&fields, spec->fields[i].name);
        buf_puts(&p->out->json, i ? "," : "");
        (void)json_put_string(&p->out->json, spec->fields[i].name, strlen(spec->fields[i].name));
    }
    buf_puts(&p->out->json, "]");
    add_layout(p, buf_cstr(&fields), schema->label);
    buf_release(&fields);
}

/* now: the table's present schema and order where there is one. */
static int describe_order(struct planning *p, const struct schema *schema,
                          const struct ice_schema *fields, const struct ice_order *now,
                          struct err *err) {
    struct ice_order asked;
    if (ice_order_parse(p->req->sort ? p->req->sort : "", fields, &asked, err)) {
        return -1;
    }
    const struct ice_order *order = now ? now : &asked;
    if (p->req->sort && now && !ice_order_same(now, &asked)) {
        add_name(&p->other_order, schema->label, ", ");
    } else if (order->count > 0 && p->req->sort) {
        add_name(&p->sorted, schema->label, ", ");
    }
    buf_puts(&p->out->json, order->count ? ",\"sort\":[" : "");
    for (uint32_t i = 0; i < order->count; i++) {
        int at = ice_schema_find_id(fields, order->fields[i].source_id);
        buf_puts(&p->out->json, i ? "," : "");
        json_put_cstr(&p->out->json, at < 0 ? "" : fields->fields[at].name);
    }
    buf_puts(&p->out->json, order->count ? "]" : "");
    return 0;
}

/* ---- tables ---- */

/* Reads the table that is in the lake. *found: there is one, and it is ours. */
static int read_table(struct planning *p, const struct schema *schema, bool *found,
                      struct ice_metadata *out, struct err *err) {
    char *location = NULL;
    struct buf bytes;
    *found = false;
    if (!p->req->catalog) {
        return 0;
    }
    if (ice_catalog_table(p->req->catalog, schema->space, schema->name, &location, err)) {
        return -1;
    }
    if (!location) {
        return 0;
    }
    buf_init(&bytes, ICE_MANIFEST_BYTES_MAX);
    int rc = ice_object_get(p->req->store, location, &bytes, err) ||
             ice_metadata_parse(bytes.data, bytes.len, out, err);
    buf_release(&bytes);
    free(location);
    if (rc) {
        return -1;
    }
    const char *owner = ice_metadata_property(out, "tailrace.job");
    if (!owner || strcmp(owner, p->req->job) != 0) {
        err_set(err, ERR_FATAL, "table_foreign",
                "the lake has a table \"%s.%s\" already, made by %s%s", schema->space, schema->name,
                owner ? "job " : "somebody else", owner ? owner : "");
        ice_metadata_release(out);
        return err_cure(err, "drop or rename that table, or write to another warehouse");
    }
    *found = true;
    return 0;
}

/* A table that is there: can it follow, and is it partitioned as asked? */
static int describe_old(struct planning *p, const struct schema *schema, struct ice_metadata *m,
                        const struct ice_spec *asked, struct err *err) {
    const struct ice_schema *now = ice_metadata_schema(m, m->current_schema_id);
    const struct ice_spec *spec = ice_metadata_spec(m, m->default_spec_id);
    struct ice_schema next = { 0 };
    int32_t last_id = m->last_column_id;
    struct ice_order order;
    CHECK(now && spec);
    ice_order_from_json(m->sort_orders, m->default_sort_order_id, &order);
    enum ice_change change = ice_schema_follow(now, schema, p->req->rules, &last_id, &next, err);
    if (change == ICE_IMPOSSIBLE) {
        return -1;
    }
    describe_columns(p, schema, change == ICE_EVOLVED ? &next : now);
    describe_spec(p, schema, spec);
    if (p->req->partition && !ice_spec_same(spec, asked)) {
        add_name(&p->other_layout, schema->label, ", ");
    }
    if (change == ICE_EVOLVED) {
        ice_schema_release(&next);
    }
    return describe_order(p, schema, now, &order, err);
}

static int describe_table(struct planning *p, const struct schema *schema, struct err *err) {
    struct ice_schema s = { 0 };
    struct ice_spec spec = { 0 };
    struct ice_metadata m = { 0 };
    int32_t last_id = 0;
    bool found = false;
    if (ice_schema_first(&s, schema, p->req->rules, &last_id, err)) {
        return -1;
    }
    int rc = read_table(p, schema, &found, &m, err);
    if (rc == 0) {
        const char *partition = p->req->partition ? p->req->partition : "";
        rc = ice_spec_parse(partition, &s, false, &spec, err);
        if (rc == 0 && found) {
            rc = describe_old(p, schema, &m, &spec, err);
        } else if (rc == 0) {
            describe_columns(p, schema, &s);
            describe_spec(p, schema, &spec);
            rc = describe_order(p, schema, &s, NULL, err);
        }
        ice_spec_release(&spec);
    }
    if (found) {
        ice_metadata_release(&m);
    }
    ice_schema_release(&s);
    return rc;
}

/* ---- what people read ---- */

static void put_forms(struct planning *p) {
    struct buf *out = &p->out->lines;
    buf_puts(out, p->form_count ? "stored as: " : "");
    for (uint32_t i = 0; i < p->form_count; i++) {
        buf_puts(out, i ? "; " : "");
        escape_put(out, p->forms[i].text, strlen(p->forms[i].text));
    }
    if (p->forms_left_out) {
        buf_putf(out, "; and %u columns of other types", p->forms_left_out);
    }
    buf_puts(out, p->form_count ? "\n" : "");
}

static void put_layouts(struct planning *p) {
    struct buf *out = &p->out->lines;
    for (uint32_t i = 0; i < p->layout_count; i++) {
        struct layout *l = &p->layouts[i];
        if (l->fields[0] || p->req->partition) {
            buf_puts(out, l->fields[0] ? "partitioned by " : "not partitioned");
            escape_put(out, l->fields, strlen(l->fields));
            buf_putf(out, ": %s\n", names_text(&l->tables));
        }
    }
}

static void put_sorted(struct planning *p) {
    if (p->sorted.count) {
        buf_puts(&p->out->lines, "files sorted by ");
        escape_put(&p->out->lines, p->req->sort, strlen(p->req->sort));
        buf_putf(&p->out->lines, ": %s\n", names_text(&p->sorted));
    }
}

static void note_suspects(struct planning *p) {
    static const char *const what[SUSPECT_COUNT] = { "dates and timestamps (infinity)",
                                                     "decimals (NaN)", "times of day (24:00)",
                                                     "arrays (several dimensions)" };
    struct source_finding *f = p->suspect.count ? new_finding(p, false) : NULL;
    if (!f) {
        return;
    }
    struct buf text;
    buf_init(&text, SIZE_MAX);
    buf_puts(&text, "values that Iceberg has no form for stop the job when they come; columns that "
                    "can hold some:");
    const char *between = " ";
    for (int i = 0; i < SUSPECT_COUNT; i++) {
        if (p->suspects[i]) {
            buf_putf(&text, "%s%u of %s", between, p->suspects[i], what[i]);
            between = ", ";
        }
    }
    buf_putf(&text, "; they are %s", names_text(&p->suspect));
    escape_append(f->what, sizeof f->what, buf_cstr(&text), text.len);
    buf_clear(&text);
    buf_putf(
        &text,
        "text=%s -- an option of the sink: stores columns as strings, for those that do hold some",
        buf_cstr(&p->options.shown));
    escape_append(f->cure, sizeof f->cure, buf_cstr(&text), text.len);
    buf_release(&text);
}

static void note_names(struct planning *p, struct names *n, const char *what, const char *cure) {
    struct source_finding *f = n->count ? new_finding(p, false) : NULL;
    if (f) {
        struct buf text;
        buf_init(&text, SIZE_MAX);
        buf_putf(&text, "%s: %s", what, names_text(n));
        escape_append(f->what, sizeof f->what, buf_cstr(&text), text.len);
        escape_append(f->cure, sizeof f->cure, cure, strlen(cure));
        buf_release(&text);
    }
}

static bool is_impossible(const struct planning *p) {
    bool fatal = false;
    for (uint32_t i = 0; i < p->out->findings.count; i++) {
        fatal = fatal || p->out->findings.at[i].fatal;
    }
    return fatal;
}

static void note_partition(struct planning *p) {
    bool any = is_impossible(p); /* which was said already */
    for (uint32_t i = 0; i < p->layout_count; i++) {
        any = any || p->layouts[i].fields[0];
    }
    struct source_finding *f = p->req->partition && p->req->partition[0] && p->layout_count && !any
                                   ? new_finding(p, false)
                                   : NULL;
    if (f) {
        snprintf(f->what, sizeof f->what,
                 "no table has a column of partition=%.200s: none is partitioned",
                 p->req->partition);
        snprintf(f->cure, sizeof f->cure,
                 "-- upper and lower case differ; a table that is made keeps its partition");
    }
}

static void note_sort(struct planning *p) {
    bool any = is_impossible(p) || p->sorted.count > 0 || p->other_order.count > 0;
    struct source_finding *f =
        p->req->sort && p->req->sort[0] && p->layout_count && !any ? new_finding(p, false) : NULL;
    if (f) {
        snprintf(f->what, sizeof f->what, "no table has a column of sort=%.200s: no file is sorted",
                 p->req->sort);
        snprintf(f->cure, sizeof f->cure, "-- upper and lower case differ");
    }
}

static void planning_release(struct planning *p) {
    for (uint32_t i = 0; i < p->form_count; i++) {
        free(p->forms[i].text);
    }
    for (uint32_t i = 0; i < p->layout_count; i++) {
        free(p->layouts[i].fields);
        names_release(&p->layouts[i].tables);
    }
    free(p->layouts);
    names_release(&p->suspect);
    names_release(&p->options);
    names_release(&p->keyless);
    names_release(&p->other_layout);
    names_release(&p->sorted);
    names_release(&p->other_order);
}

/* ---- what is there ---- */

static int64_t summed(const struct ice_snapshot *s, const char *key) {
    const char *text = json_string_value(json_object_get(s->summary, key));
    return text ? strtoll(text, NULL, 10) : -1;
}

/* One line a table: rows that live, files, bytes. */
static void put_state(struct buf *out, const char *label, const struct ice_snapshot *s) {
    int64_t rows = summed(s, "total-records");
    int64_t dead = summed(s, "total-position-deletes");
    int64_t files = summed(s, "total-data-files");
    int64_t bytes = summed(s, "total-files-size");
    buf_puts(out, "    ");
    escape_put(out, label, strlen(label));
    if (rows >= 0 && dead >= 0) {
        buf_putf(out, ": %lld rows", (long long)(rows - dead));
    }
    if (files >= 0 && bytes >= 0) {
        buf_putf(out, " (data files: %lld, rows deleted in them: %lld, size: %lld KiB)",
                 (long long)files, (long long)(dead > 0 ? dead : 0),
                 (long long)(bytes / 1024 + (bytes % 1024 > 0)));
    }
    buf_putc(out, '\n');
}

static int describe_present(const struct ice_plan_request *req, struct sink_description *out,
                            struct err *err) {
    struct ice_job_row row = { 0 };
    struct planning p = { .req = req, .out = out };
    struct buf lines;
    int64_t last_ms = 0;
    uint32_t consistent = 0;
    uint32_t count = 0;
    int rc = 0;
    if (!req->catalog) {
        return 0;
    }
    if (ice_catalog_job(req->catalog, req->job, &row, err)) {
        return -1;
    }
    json_t *schemas = row.schemas ? json_loads(row.schemas, 0, NULL) : NULL;
    buf_init(&lines, SIZE_MAX);
    for (size_t i = 0; rc == 0 && i < json_array_size(schemas); i++) {
        json_t *one = json_array_get(schemas, i);
        struct ice_metadata m = { 0 };
        bool found = false;
        struct schema named = { .space = json_string_value(json_object_get(one, "space")),
                                .name = json_string_value(json_object_get(one, "name")),
                                .label = json_string_value(json_object_get(one, "table")) };
        if (!named.space || !named.name || !named.label) {
            continue;
        }
        rc = read_table(&p, &named, &found, &m, err);
        const struct ice_snapshot *now =
            found ? ice_metadata_snapshot(&m, m.current_snapshot_id) : NULL;
        if (now) {
            const char *said =
                json_string_value(json_object_get(now->summary, "tailrace.consistent"));
            count++;
            consistent += said && strcmp(said, "true") == 0;
            last_ms = now->timestamp_ms > last_ms ? now->timestamp_ms : last_ms;
            put_state(&lines, named.label, now);
        }
        if (found) {
            ice_metadata_release(&m);
        }
    }
    if (rc == 0 && row.commit_id && count) {
        struct buf when;
        buf_init(&when, SIZE_MAX);
        value_put_timestamp(&when, last_ms * 1000 - US_1970_TO_2000, true);
        buf_putf(&out->lines,
                 "  lake: commit %s, %u of %u tables consistent, rows last changed %s\n",
                 row.commit_id, consistent, count, buf_cstr(&when));
        buf_put(&out->lines, lines.data, lines.len);
        buf_puts(&out->json, "{\"commit\":");
        json_put_cstr(&out->json, row.commit_id);
        buf_putf(&out->json, ",\"tables\":%u,\"consistent\":%u,\"changed\":", count, consistent);
        json_put_cstr(&out->json, buf_cstr(&when));
        buf_putc(&out->json, '}');
        buf_release(&when);
    }
    buf_release(&lines);
    json_decref(schemas);
    ice_job_row_release(&row);
    return rc;
}

int ice_plan_describe(const struct ice_plan_request *req, const struct source_catalogue *tables,
                      struct sink_description *out, struct err *err) {
    struct planning p = { .req = req, .out = out };
    if (!tables) {
        return describe_present(req, out, err);
    }
    buf_putf(
        &out->lines,
        "lake: Iceberg v%d tables in %s, one a source table; catalog.db there, name tailrace\n",
        req->format_version, req->folder);
    buf_putf(&out->json, "{\"format\":%d,\"tables\":[", req->format_version);
    for (uint32_t i = 0; i < tables->count; i++) {
        const struct schema *schema = tables->tables[i].schema;
        buf_puts(&out->json, i ? ",{" : "{");
        json_put_cstr(&out->json, "table");
        buf_puts(&out->json, ":");
        (void)json_put_string(&out->json, schema->label, strlen(schema->label));
        size_t at = out->json.len;
        buf_puts(&out->json, ",");
        if (describe_table(&p, schema, err)) {
            if (err->kind != ERR_FATAL) {
                planning_release(&p);
                return -1;
            }
            out->json.len = at;
            take_error(&p, schema->label, err);
        } else if (tables->tables[i].usable && schema->key_count == 0 && !schema->append) {
            add_name(&p.keyless, schema->label, ", ");
        }
        buf_puts(&out->json, "}");
    }
    buf_puts(&out->json, "]}");
    put_forms(&p);
    put_layouts(&p);
    put_sorted(&p);
    note_partition(&p);
    note_sort(&p);
    note_names(&p, &p.other_layout,
               "partition= is for tables that are made; these are there already, and stay as they "
               "are partitioned",
               "-- for another partition a new warehouse");
    note_names(
        &p, &p.other_order,
        "sort= is for tables that are made; these are there already, and keep the order they "
        "have, or have none",
        "-- for another order a new warehouse");
    note_names(&p, &p.keyless,
               "tables without a key: kept exact as multisets; an update or delete is found by all "
               "columns of the row",
               "-- a primary key makes them faster");
    note_suspects(&p);
    planning_release(&p);
    return 0;
}
