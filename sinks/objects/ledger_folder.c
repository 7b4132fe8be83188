/* Reading a folder of commits. See ledger_folder.h. Nothing here writes, so plan and status may use
 * it beside a running job. */
#include "sinks/objects/ledger_folder.h"

#include <inttypes.h>
#include <jansson.h>
#include <libdeflate.h>
#include <stdio.h>
#include <stdlib.h>

#include "cdc/base/json.h"

enum {
    SEQ_DIGITS = 16,
    TAIL_FIRST = 64 << 10, /* bytes read from a file's end; doubled until a whole line is in it */
    TAIL_MAX = 64 << 20,
    READ_PIECE = 256 << 10,
    LIST_MAX = 256 << 20, /* bytes of names */
    SCHEMA_MAX = 1 << 30,
};

struct ledger_code ledger_code(const struct ledger_place *p, const char *what) {
    struct ledger_code code;
    int n = snprintf(code.text, sizeof code.text, "%s_%s", p->scheme, what);
    CHECK(n > 0 && (size_t)n < sizeof code.text);
    return code;
}

void ledger_line_release(struct ledger_line *c) {
    free(c->job);
    free(c->schema);
    free(c->position);
    free(c->inconsistent);
    *c = (struct ledger_line){ 0 };
}

static char *copy_or_null(const char *s) { return s ? xstrdup(s) : NULL; }

void ledger_line_copy(struct ledger_line *dst, const struct ledger_line *src) {
    *dst = (struct ledger_line){
        .job = copy_or_null(src->job),
        .epoch = src->epoch,
        .seq = src->seq,
        .rows = src->rows,
        .schema = copy_or_null(src->schema),
        .position = copy_or_null(src->position),
        .inconsistent = copy_or_null(src->inconsistent),
    };
}

void ledger_line_put(struct buf *out, const struct ledger_line *c) {
    CHECK(!c->position || !strchr(c->position, '\n'));
    buf_puts(out, "{\"commit\":{\"job\":");
    json_put_cstr(out, c->job);
    buf_putf(out, ",\"epoch\":%" PRIu64 ",\"seq\":%" PRIu64 ",\"rows\":%" PRIu64 ",\"schema\":",
             c->epoch, c->seq, c->rows);
    if (c->schema) {
        json_put_cstr(out, c->schema);
    } else {
        buf_puts(out, "null");
    }
    buf_puts(out, ",\"position\":");
    buf_puts(out, c->position ? c->position : "null");
    buf_puts(out, ",\"inconsistent\":");
    buf_puts(out, c->inconsistent ? c->inconsistent : "[]");
    buf_puts(out, "}}\n");
}

/* The position's own bytes: it is given back as it was stored, not as a JSON library would write
 * it. job and schema have no quotes in them, so the first "position": is the key. */
static char *verbatim_position(const char *line, size_t len) {
    static const char key[] = "\"position\":";
    const char *at = memmem(line, len, key, sizeof key - 1);
    if (!at) {
        return NULL;
    }
    at += sizeof key - 1;
    json_error_t error;
    json_t *value = json_loadb(at, len - (size_t)(at - line),
                               JSON_DISABLE_EOF_CHECK | JSON_REJECT_DUPLICATES, &error);
    if (!value) {
        return NULL;
    }
    json_decref(value);
    return xstrndup(at, (size_t)error.position);
}

static bool is_count(const json_t *v) { return json_is_integer(v) && json_integer_value(v) >= 0; }
static bool is_plain_text(const json_t *v) {
    return json_is_string(v) && !strpbrk(json_string_value(v), "\"\\/");
}

int ledger_line_take(const char *line, size_t len, struct ledger_line *out) {
    *out = (struct ledger_line){ 0 };
    int result = -1;
    json_t *root = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
    json_t *c = json_object_get(root, "commit");
    const json_t *epoch = json_object_get(c, "epoch");
    const json_t *seq = json_object_get(c, "seq");
    const json_t *rows = json_object_get(c, "rows");
    const json_t *job = json_object_get(c, "job");
    const json_t *schema = json_object_get(c, "schema");
    const json_t *position = json_object_get(c, "position");
    const json_t *inconsistent = json_object_get(c, "inconsistent");
    if (is_count(epoch) && is_count(seq) && is_count(rows) && is_plain_text(job) &&
        (json_is_null(schema) || is_plain_text(schema)) &&
        (json_is_null(position) || json_is_object(position)) && json_is_array(inconsistent)) {
        out->job = xstrdup(json_string_value(job));
        out->epoch = (uint64_t)json_integer_value(epoch);
        out->seq = (uint64_t)json_integer_value(seq);
        out->rows = (uint64_t)json_integer_value(rows);
        out->schema = copy_or_null(json_string_value(schema));
        out->position = json_is_null(position) ? NULL : verbatim_position(line, len);
        char *list = json_dumps(inconsistent, JSON_COMPACT);
        CHECK(list);
        out->inconsistent = xstrdup(list);
        free(list);
        result = json_is_null(position) || out->position ? 0 : -1;
    }
    json_decref(root);
    if (result) {
        ledger_line_release(out);
    }
    return result;
}

char *ledger_data_path(const char *dir, uint64_t seq) {
    return xasprintf("%s/%016" PRIu64 ".jsonl", dir, seq);
}
char *ledger_idle_path(const char *dir, uint64_t epoch) {
    return xasprintf("%s/_idle.%" PRIu64 ".json", dir, epoch);
}
char *ledger_schema_name(uint64_t seq, uint64_t epoch) {
    return xasprintf("_schema.%016" PRIu64 ".%" PRIu64 ".json", seq, epoch);
}

static bool all_of(const char *s, size_t n, const char *set) {
    return strnlen(s, n) == n && strspn(s, set) >= n;
}

bool ledger_is_staged_name(const char *name) {
    return name[0] == '.' && all_of(name + 1, SEQ_DIGITS, "0123456789") &&
           name[1 + SEQ_DIGITS] == '.' && all_of(name + 2 + SEQ_DIGITS, 16, "0123456789abcdef") &&
           name[2 + SEQ_DIGITS + 16] == '\0';
}

bool ledger_is_schema_name(const char *name) {
    static const char head[] = "_schema.";
    const char *seq = name + sizeof head - 1;
    return strncmp(name, head, sizeof head - 1) == 0 && all_of(seq, SEQ_DIGITS, "0123456789") &&
           seq[SEQ_DIGITS] == '.';
}

int ledger_list(const struct ledger_place *p, struct buf *names, uint64_t *seq, bool *exists,
                struct err *err) {
    *seq = 0;
    *exists = true;
    names->max = LIST_MAX;
    enum files_result listed = files_list(p->files, p->dir, names, err);
    if (listed == FILES_ABSENT) {
        *exists = false;
        buf_clear(names);
        return 0;
    }
    if (listed != FILES_OK) {
        return -1;
    }
    for (size_t at = 0; at < names->len; at += strlen(names->data + at) + 1) {
        const char *name = names->data + at;
        if (all_of(name, SEQ_DIGITS, "0123456789") && strcmp(name + SEQ_DIGITS, ".jsonl") == 0) {
            uint64_t number = strtoull(name, NULL, 10);
            *seq = number > *seq ? number : *seq;
        }
    }
    return 0;
}

static int damaged(const struct ledger_place *p, const char *path, struct err *err) {
    err_set(err, ERR_FATAL, ledger_code(p, "damaged").text,
            "last line of \"%s\" is no commit line: the file was cut or edited", path);
    return err_cure(
        err,
        "restore the file from a copy; or start the job anew: tailrace drop, then an empty folder");
}

/* The last line of [data, data+len), which ends a file: -1 if it does not begin in it, -2 if it
 * does not end. */
static int last_line(const char *data, size_t len, bool whole_file, const char **line,
                     size_t *line_len) {
    if (len == 0 || data[len - 1] != '\n') {
        return -2;
    }
    const char *before = memrchr(data, '\n', len - 1);
    if (!before && !whole_file) {
        return -1;
    }
    *line = before ? before + 1 : data;
    *line_len = (size_t)(data + len - 1 - *line);
    return 0;
}

enum files_result ledger_read_line(const struct ledger_place *p, const char *path,
                                   struct ledger_line *out, struct err *err) {
    struct file *file = NULL;
    enum files_result opened = files_open_read(p->files, path, &file, err);
    if (opened != FILES_OK) {
        return opened;
    }
    enum files_result result = FILES_FAILED;
    uint64_t size = 0;
    char *tail = NULL;
    if (file_size(file, &size, err)) {
        goto done;
    }
    for (size_t want = TAIL_FIRST;; want *= 2) {
        size_t n = size < want ? (size_t)size : want;
        size_t got = 0;
        tail = xrealloc(tail, n + 1);
        if (file_read_at(file, size - n, tail, n, &got, err)) {
            break;
        }
        const char *line = NULL;
        size_t len = 0;
        int found = got == n ? last_line(tail, n, n == size, &line, &len) : -2;
        if (found == -1 && want < TAIL_MAX) {
            continue;
        }
        if (found || ledger_line_take(line, len, out)) {
            damaged(p, path, err);
            break;
        }
        result = FILES_OK;
        break;
    }
done:
    free(tail);
    file_close(file);
    return result;
}

static int check_job(const struct ledger_place *p, const char *job, const struct ledger_line *c,
                     struct err *err) {
    if (strcmp(c->job, job) == 0) {
        return 0;
    }
    err_set(err, ERR_FATAL, ledger_code(p, "other_job").text,
            "folder \"%s\" holds the job \"%s\", not \"%s\"", p->dir, c->job, job);
    return err_cure(err, "give this job a folder of its own, or its old name with ?job=%s", c->job);
}

/* The position of the _idle file of that epoch, if it belongs to file `seq`. 1 = taken. */
static int take_idle(const struct ledger_place *p, uint64_t epoch, uint64_t seq,
                     struct ledger_line *newest, struct err *err) {
    char *path = ledger_idle_path(p->dir, epoch);
    struct ledger_line idle = { 0 };
    enum files_result read = ledger_read_line(p, path, &idle, err);
    free(path);
    bool counts = read == FILES_OK && idle.epoch == epoch && idle.seq == seq &&
                  strcmp(idle.job, newest->job) == 0;
    if (counts) {
        char *position = newest->position;
        newest->position = idle.position;
        idle.position = position;
    }
    ledger_line_release(&idle);
    return read == FILES_FAILED ? -1 : counts;
}

/* An _idle file replaces the position while it belongs to the newest file; or, where that is a
 * claim, to the one that it was made upon: it may have come after the claim's maker had looked, and
 * before the claim was there to be seen. A claim is of the next epoch; below a commit stands a file
 * of the same one, so that this finds nothing there. */
static int apply_idle(const struct ledger_place *p, struct ledger_line *newest, struct err *err) {
    int taken = take_idle(p, newest->epoch, newest->seq, newest, err);
    if (taken == 0 && newest->epoch > 0 && newest->seq > 0) {
        taken = take_idle(p, newest->epoch - 1, newest->seq - 1, newest, err);
    }
    return taken < 0 ? -1 : 0;
}

/* What went missing is found by what speaks of it: an _idle file of the file that was newest then,
 * a _schema file of the commit that it came before. *spoken: the highest such number; a commit that
 * broke off may have left a _schema file one above the newest. */
static int spoken_of(const struct ledger_place *p, const struct buf *names, uint64_t *spoken,
                     struct err *err) {
    *spoken = 0;
    for (size_t at = 0; at < names->len; at += strlen(names->data + at) + 1) {
        const char *name = names->data + at;
        uint64_t seq = 0;
        if (ledger_is_schema_name(name)) {
            seq = strtoull(name + sizeof "_schema." - 1, NULL, 10);
            seq -= seq > 0;
        } else if (strncmp(name, "_idle.", 6) == 0) {
            char *path = xasprintf("%s/%s", p->dir, name);
            struct ledger_line idle = { 0 };
            enum files_result read = ledger_read_line(p, path, &idle, err);
            seq = read == FILES_OK ? idle.seq : 0;
            ledger_line_release(&idle);
            free(path);
            if (read == FILES_FAILED) {
                return -1;
            }
        }
        *spoken = seq > *spoken ? seq : *spoken;
    }
    return 0;
}

int ledger_moved(const struct ledger_place *p, uint64_t seq, struct err *err) {
    char *path = ledger_data_path(p->dir, seq);
    err_set(err, ERR_FATAL, ledger_code(p, "moved").text,
            "\"%s\" is gone: it was the newest file, which holds the position", path);
    err_cure(err, "put it back; or start the job anew: tailrace drop, then an empty folder");
    free(path);
    return err_exit(err, EXIT_LINEAGE);
}

/* The number of the newest file; 0 = none. Where something speaks of a newer one the folder is
 * listed again: another instance may have committed in between. */
static int find_newest(const struct ledger_place *p, uint64_t *seq, struct err *err) {
    struct buf names;
    buf_init(&names, LIST_MAX);
    uint64_t spoken = 0;
    bool exists = false;
    int failed = ledger_list(p, &names, seq, &exists, err) || spoken_of(p, &names, &spoken, err);
    if (!failed && spoken > *seq) {
        failed = ledger_list(p, &names, seq, &exists, err);
        if (!failed && spoken > *seq) {
            failed = ledger_moved(p, spoken, err);
        }
    }
    buf_release(&names);
    return failed ? -1 : 0;
}

int ledger_read(const struct ledger_place *p, const char *job, struct ledger_line *out, bool *found,
                struct err *err) {
    *out = (struct ledger_line){ 0 };
    *found = false;
    uint64_t seq = 0;
    if (find_newest(p, &seq, err)) {
        return -1;
    }
    if (seq == 0) {
        return 0;
    }
    char *path = ledger_data_path(p->dir, seq);
    enum files_result read = ledger_read_line(p, path, out, err);
    if (read == FILES_ABSENT) {
        err_set(err, ERR_REWIND, ledger_code(p, "moved").text,
                "\"%s\" was moved away while it was read", path);
    } else if (read == FILES_OK && out->seq != seq) {
        damaged(p, path, err);
        read = FILES_FAILED;
    }
    free(path);
    *found = read == FILES_OK;
    if (!*found || check_job(p, job, out, err) || apply_idle(p, out, err)) {
        ledger_line_release(out);
        *found = false;
        return -1;
    }
    return 0;
}

enum files_result ledger_read_whole(const struct ledger_place *p, const char *path, struct buf *out,
                                    struct err *err) {
    struct file *file = NULL;
    enum files_result opened = files_open_read(p->files, path, &file, err);
    if (opened != FILES_OK) {
        return opened;
    }
    uint64_t size = 0;
    size_t got = 0;
    int failed = file_size(file, &size, err);
    if (!failed && (size > SCHEMA_MAX || buf_reserve(out, (size_t)size))) {
        failed = err_set(err, ERR_FATAL, ledger_code(p, "damaged").text,
                         "\"%s\" is larger than any list of tables", path);
    }
    failed = failed || file_read_at(file, 0, out->data, (size_t)size, &got, err);
    out->len = got;
    file_close(file);
    return failed ? FILES_FAILED : FILES_OK;
}

static int take_schemas(const struct ledger_place *p, const json_t *tables,
                        struct schema ***schemas, uint32_t *count, struct err *err) {
    size_t n = json_array_size(tables);
    *schemas = xcalloc(n + 1, sizeof **schemas);
    *count = 0;
    for (size_t i = 0; i < n; i++) {
        char *text = json_dumps(json_array_get(tables, i), JSON_COMPACT);
        struct schema *s = text ? schema_from_json(text, strlen(text), err) : NULL;
        free(text);
        if (!s) {
            if (err->kind == ERR_NONE) {
                err_set(err, ERR_FATAL, ledger_code(p, "damaged").text, "table %zu is malformed",
                        i);
            }
            while (*count > 0) {
                schema_unref((*schemas)[--*count]);
            }
            free(*schemas);
            *schemas = NULL;
            return -1;
        }
        (*schemas)[(*count)++] = s;
    }
    return 0;
}

int ledger_read_schemas(const struct ledger_place *p, const char *name, struct schema ***schemas,
                        uint32_t *count, struct err *err) {
    char *path = xasprintf("%s/%s", p->dir, name);
    struct buf text;
    buf_init(&text, SCHEMA_MAX);
    err_clear(err);
    int failed = -1;
    enum files_result read = ledger_read_whole(p, path, &text, err);
    if (read == FILES_ABSENT) {
        err_set(err, ERR_FATAL, ledger_code(p, "schema_missing").text,
                "\"%s\" is missing: the newest commit needs it", path);
        err_cure(err,
                 "put the file back; or start the job anew: tailrace drop, then an empty folder");
        err_exit(err, EXIT_LINEAGE);
    } else if (read == FILES_OK) {
        json_t *root = json_loadb(buf_cstr(&text), text.len, JSON_REJECT_DUPLICATES, NULL);
        const json_t *tables = json_object_get(root, "tables");
        if (!json_is_array(tables)) {
            err_set(err, ERR_FATAL, ledger_code(p, "damaged").text, "\"%s\" is no list of tables",
                    path);
        } else if (take_schemas(p, tables, schemas, count, err)) {
            err_wrap(err, "\"%s\"", path);
        } else {
            failed = 0;
        }
        json_decref(root);
    }
    buf_release(&text);
    free(path);
    return failed;
}

enum files_result ledger_checksum(struct files *files, const char *path, uint64_t *size,
                                  uint32_t *crc, struct err *err) {
    struct file *file = NULL;
    enum files_result opened = files_open_read(files, path, &file, err);
    if (opened != FILES_OK) {
        return opened;
    }
    char *piece = xmalloc(READ_PIECE);
    size_t got = 0;
    int failed;
    *size = 0;
    *crc = 0;
    do {
        failed = file_read_at(file, *size, piece, READ_PIECE, &got, err);
        if (!failed) {
            *crc = libdeflate_crc32(*crc, piece, got);
            *size += got;
        }
    } while (!failed && got == READ_PIECE);
    free(piece);
    file_close(file);
    return failed ? FILES_FAILED : FILES_OK;
}
