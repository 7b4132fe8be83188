/* See pqlog_file.h. */
#include "sinks/changelog_parquet/pqlog_file.h"

#include <libdeflate.h>
#include <stdlib.h>
#include <strings.h>

#include "sinks/parquet/parquet_choice.h"

enum { NAME_TRIES = 8 };

struct pqlog_file {
    struct schema *schema; /* owned reference */
    char *folder, *staged;
    struct store_upload *upload;
    uint32_t crc;
    struct parquet_writer *writer;
    struct lake_type *types;
};

static const char *const names[PQLOG_COLUMNS] = {
    [PQLOG_OP] = "op",
    [PQLOG_ORDER] = "order",
    [PQLOG_TX] = "tx",
    [PQLOG_N] = "n",
    [PQLOG_TS] = "ts",
    [PQLOG_POSITION] = "position",
    [PQLOG_GENERATION] = "generation",
    [PQLOG_UNCHANGED] = "unchanged",
};

struct lake_type pqlog_column_type(enum pqlog_column column) {
    switch (column) {
    case PQLOG_OP:
    case PQLOG_POSITION:
        return (struct lake_type){ .kind = LAKE_STRING };
    case PQLOG_ORDER:
    case PQLOG_TX:
    case PQLOG_N:
    case PQLOG_GENERATION:
        return (struct lake_type){ .kind = LAKE_LONG };
    case PQLOG_TS:
        return (struct lake_type){ .kind = LAKE_TIMESTAMPTZ };
    case PQLOG_UNCHANGED:
        return (struct lake_type){ .kind = LAKE_LIST, .element = LAKE_STRING };
    case PQLOG_COLUMNS:
        break;
    }
    CHECK(!"no such column");
    return (struct lake_type){ 0 };
}

static bool always_there(uint32_t column) {
    return column == PQLOG_OP || column == PQLOG_ORDER || column == PQLOG_POSITION ||
           column == PQLOG_GENERATION;
}

static int write_bytes(void *arg, const void *p, size_t n, struct err *err) {
    struct pqlog_file *f = arg;
    f->crc = libdeflate_crc32(f->crc, p, n);
    return store_write(f->upload, p, n, err);
}

/* Readers take Order and order for one column. */
static int check_names(const struct schema *schema, const char *prefix, struct err *err) {
    size_t len = strlen(prefix);
    for (uint32_t i = 0; i < schema->column_count; i++) {
        const char *name = schema->columns[i].name;
        for (uint32_t k = 0; strncasecmp(name, prefix, len) == 0 && k < PQLOG_COLUMNS; k++) {
            if (strcasecmp(name + len, names[k]) == 0) {
                err_set(
                    err, ERR_FATAL, "parquet_column_taken",
                    "table %s: its column \"%s\" has the name of a column that describes changes",
                    schema->label, name);
                return err_cure(err, "choose another beginning for those: ?prefix=_tailrace_");
            }
        }
    }
    return 0;
}

static struct parquet_writer *writer_for(struct pqlog_file *f,
                                         const struct pqlog_file_config *config) {
    const struct schema *s = f->schema;
    uint32_t count = s->column_count + (uint32_t)PQLOG_COLUMNS;
    struct parquet_field *fields = xcalloc(count, sizeof *fields);
    char *own[PQLOG_COLUMNS];
    for (uint32_t i = 0; i < s->column_count; i++) {
        fields[i] = (struct parquet_field){ .name = s->columns[i].name, .type = f->types[i] };
    }
    for (uint32_t i = 0; i < PQLOG_COLUMNS; i++) {
        own[i] = xasprintf("%s%s", config->prefix, names[i]);
        fields[s->column_count + i] =
            (struct parquet_field){ .name = own[i],
                                    .type = pqlog_column_type((enum pqlog_column)i),
                                    .required = always_there(i) };
    }
    struct buf json;
    buf_init(&json, SIZE_MAX);
    schema_put_json(&json, s);
    const char *const extra[] = {
        "tailrace.job",  config->job, "tailrace.table", s->label, "tailrace.schema",
        buf_cstr(&json), NULL
    };
    struct parquet_options options = config->parquet;
    options.extra = extra;
    struct parquet_writer *w = parquet_writer_new(
        fields, count, &options, (struct parquet_output){ .write = write_bytes, .arg = f });
    buf_release(&json);
    for (uint32_t i = 0; i < PQLOG_COLUMNS; i++) {
        free(own[i]);
    }
    free(fields);
    return w;
}

/* A staged file under a name of its own. A name is taken where the answer to its making was lost.
 */
static int stage(struct store *store, const char *folder, uint64_t epoch, char **staged,
                 struct store_upload **upload, struct err *err) {
    for (int tries = 0;; tries++) {
        *staged = pqlog_staged_name(epoch);
        char *key = xasprintf("%s/%s", folder, *staged);
        int failed = store_create(store, key, upload, err);
        free(key);
        if (!failed) {
            return 0;
        }
        free(*staged);
        if (strcmp(err->code, "object_exists") != 0 || tries == NAME_TRIES) {
            return -1;
        }
        err_clear(err);
    }
}

int pqlog_file_open(const struct pqlog_file_config *config, uint64_t epoch, struct schema *schema,
                    struct pqlog_file **out, struct err *err) {
    if (check_names(schema, config->prefix, err)) {
        return -1;
    }
    char *folder = pqlog_folder_name(schema->space, schema->name);
    char *staged = NULL;
    struct store_upload *upload = NULL;
    if (stage(config->store, folder, epoch, &staged, &upload, err)) {
        free(folder);
        return -1;
    }
    struct pqlog_file *f = xcalloc(1, sizeof *f);
    *f = (struct pqlog_file){
        .schema = schema_ref(schema), .folder = folder, .staged = staged, .upload = upload
    };
    f->types = xcalloc(schema->column_count + 1u, sizeof *f->types);
    for (uint32_t i = 0; i < schema->column_count; i++) {
        const struct column_def *c = &schema->columns[i];
        f->types[i] =
            lake_type_of(&c->type, parquet_text_chosen(config->text, schema->label, c->name));
    }
    f->writer = writer_for(f, config);
    *out = f;
    return 0;
}

bool pqlog_file_fits(const struct pqlog_file *f, const struct schema *schema) {
    return f->schema == schema ||
           (schema_same_rows(f->schema, schema) && f->schema->version == schema->version &&
            strcmp(f->schema->label, schema->label) == 0);
}
const struct lake_type *pqlog_file_types(const struct pqlog_file *f) { return f->types; }

int pqlog_file_add(struct pqlog_file *f, const struct lake_column *columns, uint32_t rows,
                   struct err *err) {
    return parquet_writer_add(f->writer, columns, rows, err);
}
uint64_t pqlog_file_bytes(const struct pqlog_file *f) { return parquet_writer_bytes(f->writer); }
size_t pqlog_file_memory(const struct pqlog_file *f) { return parquet_writer_memory(f->writer); }
int pqlog_file_flush(struct pqlog_file *f, struct err *err) {
    return parquet_writer_flush(f->writer, err);
}

static void file_free(struct pqlog_file *f) {
    parquet_writer_free(f->writer);
    schema_unref(f->schema);
    free(f->folder);
    free(f->staged);
    free(f->types);
    free(f);
}

int pqlog_file_finish(struct pqlog_file *f, struct store_folders *folders, struct pqlog_entry *out,
                      struct err *err) {
    struct parquet_info info = { 0 };
    if (parquet_writer_finish(f->writer, &info, err)) {
        pqlog_file_abort(f);
        return -1;
    }
    uint64_t bytes = 0;
    int failed = store_finish(f->upload, folders, &bytes, err);
    if (!failed) {
        CHECK(bytes == info.bytes);
        *out = (struct pqlog_entry){ .folder = xstrdup(f->folder),
                                     .staged = xstrdup(f->staged),
                                     .table = xstrdup(f->schema->label),
                                     .version = f->schema->version,
                                     .rows = info.rows,
                                     .bytes = bytes,
                                     .crc = f->crc };
    }
    parquet_info_release(&info);
    file_free(f);
    return failed;
}

void pqlog_file_abort(struct pqlog_file *f) {
    if (f) {
        store_abort(f->upload);
        file_free(f);
    }
}
