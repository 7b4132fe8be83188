/* What the parquet sink's commit files name, read back with the reader of the format: rows as
 * events, in the order of _order. See sinks_jsonl.c, which watches the commit files of both. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/map.h"
#include "sinks/changelog_parquet/pqlog_layout.h"
#include "sinks/parquet/parquet_reader.h"
#include "tests/sim/oracle.h"
#include "tests/sim/sched.h"
#include "tests/sim/sinks_impl.h"
#include "tests/sim/source.h"

#define NAMED_MAX 4096u

/* A row as it lies in a file. */
struct read_row {
    int64_t order, tx, n;
    bool in_log, keyless;
    char op;
    struct event event;
};
/* Every file that a commit has named, with what is known of it. */
struct named {
    uint64_t seq;
    char *path, *staged;
    uint64_t bytes;
};
static struct {
    struct named at[NAMED_MAX];
    unsigned count;
    struct map *paths;   /* of all of them -> themselves */
    struct map *folders; /* of all of them -> their names */
} named;

static const struct buf *look(const char *name) {
    char path[300];
    snprintf(path, sizeof path, "%s/%s", SIM_JSONL_DIR, name);
    return disk_look(sim_target.disk, path);
}

/* A visible file that no commit has named. */
static void check_foreign(const char *folder) {
    char dir[300], path[300];
    snprintf(dir, sizeof dir, "%s/%s", SIM_JSONL_DIR, folder);
    const char *name;
    for (unsigned n = 0; (name = disk_name(sim_target.disk, dir, n)) != NULL; n++) {
        snprintf(path, sizeof path, "%s/%s", folder, name);
        if (*name != '.' && !map_get(named.paths, path, strlen(path))) {
            sim_fail("visible", "%s: no commit names it", path);
        }
    }
}

void parquet_check_named(uint64_t newest) {
    void *folder;
    for (size_t at = 0; named.folders && map_next(named.folders, &at, NULL, NULL, &folder);) {
        check_foreign(folder);
    }
    for (unsigned i = 0; i < named.count; i++) {
        const struct named *f = &named.at[i];
        const struct buf *file = look(f->path);
        /* Only the newest commit's files may wait for their names. */
        file = file || f->seq < newest ? file : look(f->staged);
        if (!file || file->len != f->bytes) {
            sim_fail("durable", "%s of commit %llu is %s", f->path, (unsigned long long)f->seq,
                     file ? "another" : "gone");
        }
    }
}

static int read_at(void *arg, uint64_t off, void *p, size_t n, struct err *err) {
    const struct buf *file = arg;
    (void)err;
    CHECK(off + n <= file->len);
    memcpy(p, file->data + off, n);
    return 0;
}

static bool is_null(const struct lake_column *c, uint32_t i) {
    return c->valid && !bit_get(c->valid, i);
}
static int64_t number(const struct lake_column *c, uint32_t i) {
    int64_t v = 0;
    if (!is_null(c, i)) {
        CHECK(c->width <= sizeof v);
        memcpy(&v, c->data + (size_t)i * c->width, c->width);
    }
    return v;
}
static char *text(const struct lake_column *c, uint32_t i) {
    return xstrndup((const char *)c->data + c->offsets[i], c->offsets[i + 1] - c->offsets[i]);
}

static void take_position(const struct lake_column *c, uint32_t i, struct read_row *row) {
    struct logpos pos;
    char *at = text(c, i);
    if (sim_take_logpos(at, &pos)) {
        sim_fail("line", "a position cannot be read: %s", at);
    }
    row->event.commit = db_offset(sim_target.db, pos);
    free(at);
}

static void take_unchanged(const struct lake_column *c, uint32_t i, struct read_row *row) {
    for (uint32_t k = is_null(c, i) ? 0 : c->offsets[i]; !is_null(c, i) && k < c->offsets[i + 1];
         k++) {
        char *name = text(c->elements, k);
        struct event_row *after = &row->event.after;
        if (after->state[event_column(name)] == EVENT_VALUE) {
            sim_fail("line", "column %s is called unchanged and has a value", name);
        }
        after->state[event_column(name)] = EVENT_ABSENT;
        free(name);
    }
}

static void take_cell(const char *name, const struct lake_column *c, uint32_t i,
                      struct read_row *row) {
    unsigned at = event_column(name);
    if (is_null(c, i)) {
        row->event.after.state[at] = EVENT_NULL;
        return;
    }
    row->event.after.state[at] = EVENT_VALUE;
    if (c->width) {
        row->event.after.v[at] = (int32_t)number(c, i);
    } else {
        char *cell = text(c, i);
        row->event.after.v[at] = event_number(cell, strlen(cell));
        free(cell);
    }
}

/* _unchanged comes last, when the cells are there. */
static void take(const char *name, const struct lake_column *c, uint32_t i, struct read_row *row) {
    if (strcmp(name, "_op") == 0) {
        row->op = (char)c->data[c->offsets[i]];
    } else if (strcmp(name, "_order") == 0) {
        row->order = number(c, i);
    } else if (strcmp(name, "_tx") == 0) {
        row->in_log = !is_null(c, i);
        row->tx = number(c, i);
    } else if (strcmp(name, "_n") == 0) {
        row->n = number(c, i);
    } else if (strcmp(name, "_generation") == 0) {
        row->event.generation = (unsigned)number(c, i);
    } else if (strcmp(name, "_position") == 0) {
        take_position(c, i, row);
    } else if (strcmp(name, "_unchanged") == 0) {
        take_unchanged(c, i, row);
    } else if (strcmp(name, "_ts") != 0) {
        take_cell(name, c, i, row);
    }
}

static void read_columns(struct parquet_reader *r, const char *path, struct read_row *rows) {
    struct err err = ERR_INIT;
    for (uint32_t f = 0; f < parquet_reader_field_count(r); f++) {
        struct parquet_cursor *cursor = NULL;
        struct lake_column piece;
        uint64_t row = 0;
        int failed = parquet_cursor_open(r, f, &cursor, &err);
        while (!failed && !(failed = parquet_cursor_next(cursor, 1024, &piece, &err)) &&
               piece.rows) {
            for (uint32_t i = 0; i < piece.rows; i++) {
                take(parquet_reader_field(r, f)->name, &piece, i, &rows[row + i]);
            }
            row += piece.rows;
        }
        if (failed || row != parquet_reader_rows(r)) {
            sim_fail("line", "%s cannot be read: %s", path, err.text);
        }
        parquet_cursor_close(cursor);
    }
}

/* A file's rows, added to *rows. */
static void read_file(const struct pqlog_entry *e, const char *path, const struct buf *file,
                      struct read_row **rows, unsigned *count) {
    struct err err = ERR_INIT;
    struct parquet_reader *r = NULL;
    struct parquet_input input = {
        .read_at = read_at, .arg = (void *)file, .size = file->len, .name = path
    };
    if (parquet_reader_open(input, SIZE_MAX, &r, &err)) {
        sim_fail("line", "%s cannot be read: %s", path, err.text);
    }
    const char *json = parquet_reader_extra(r, "tailrace.schema");
    struct schema *schema = json ? schema_from_json(json, strlen(json), &err) : NULL;
    uint64_t more = parquet_reader_rows(r);
    if (!schema || more != e->rows || strcmp(schema->label, e->table) != 0) {
        sim_fail("line", "%s is not what its commit says", path);
    }
    *rows = xrealloc(*rows, (*count + more + 1) * sizeof **rows);
    struct read_row *first = *rows + *count;
    memset(first, 0, more * sizeof *first);
    read_columns(r, path, first);
    for (uint64_t i = 0; i < more; i++) {
        snprintf(first[i].event.label, sizeof first[i].event.label, "%s", e->table);
        first[i].keyless = schema->key_count == 0;
        /* null is no statement in a d row of a table with a key */
        for (unsigned c = 0; first[i].op == 'd' && !first[i].keyless && c < DB_COLUMNS; c++) {
            uint8_t *state = &first[i].event.after.state[c];
            *state = *state == EVENT_NULL ? EVENT_NONE : *state;
        }
    }
    *count += (unsigned)more;
    schema_unref(schema);
    parquet_reader_close(r);
}

static int compare_rows(const void *a, const void *b) {
    const struct read_row *x = a, *y = b;
    return (x->order > y->order) - (x->order < y->order);
}

static bool is_moved(const struct read_row *d, const struct read_row *c) {
    return d->op == 'd' && c->op == 'c' && d->in_log && c->in_log && d->tx == c->tx &&
           d->n == c->n && strcmp(d->event.label, c->event.label) == 0;
}

/* Rows to events: a d and the c beside it of one transaction and number are one update. */
static void add_events(struct read_row *rows, unsigned count, struct events *out) {
    for (unsigned i = 0; i < count; i++) {
        struct read_row *r = &rows[i];
        if (i > 0 && r->order <= rows[i - 1].order) {
            sim_fail("order", "%s: two rows have one number", r->event.label);
        }
        r->event.n = (uint32_t)r->n;
        r->event.kind = r->op == 'r'   ? EVENT_SNAPSHOT
                        : r->op == 'c' ? EVENT_INSERT
                        : r->op == 'u' ? EVENT_UPDATE
                        : r->op == 'd' ? (r->in_log ? EVENT_DELETE : EVENT_REMOVE)
                        : r->in_log    ? EVENT_TRUNCATE
                                       : EVENT_GENERATION;
        if (r->op == 't') {
            r->event.after = (struct event_row){ 0 };
        }
        if (!r->in_log) {
            r->event.joined = r->op == 'r' ? r->event.commit : 0;
            r->event.commit = 0;
        }
        if (i + 1 < count && is_moved(r, &rows[i + 1])) {
            struct event e = rows[i + 1].event;
            e.kind = EVENT_UPDATE;
            e.n = (uint32_t)rows[i + 1].n;
            e.has_before = true;
            e.before = r->event.after;
            events_add(out, &e);
            i++;
        } else {
            events_add(out, &r->event);
        }
    }
}

void parquet_events(uint64_t seq, const struct buf *commit, struct events *out) {
    struct pqlog_entries files;
    struct read_row *rows = NULL;
    unsigned count = 0;
    if (pqlog_entries_take(commit->data, commit->len, &files)) {
        sim_fail("line", "commit file %llu is damaged", (unsigned long long)seq);
    }
    for (uint32_t i = 0; i < files.count; i++) {
        const struct pqlog_entry *e = &files.at[i];
        CHECK(named.count < NAMED_MAX);
        struct named *n = &named.at[named.count++];
        *n = (struct named){ .seq = seq,
                             .path = xasprintf("%s/%s", e->folder, e->name),
                             .staged = xasprintf("%s/%s", e->folder, e->staged),
                             .bytes = e->bytes };
        if (!named.paths) {
            named.paths = map_new();
            named.folders = map_new();
        }
        map_set(named.paths, n->path, strlen(n->path), n);
        if (!map_get(named.folders, e->folder, strlen(e->folder))) {
            map_set(named.folders, e->folder, strlen(e->folder), xstrdup(e->folder));
        }
        const struct buf *file = look(n->path);
        file = file ? file : look(n->staged);
        if (!file || file->len != e->bytes) {
            sim_fail("durable", "%s of commit %llu is %s", n->path, (unsigned long long)seq,
                     file ? "another" : "missing");
        }
        read_file(e, n->path, file, &rows, &count);
    }
    if (count) {
        qsort(rows, count, sizeof *rows, compare_rows);
    }
    add_events(rows, count, out);
    free(rows);
    pqlog_entries_release(&files);
}
