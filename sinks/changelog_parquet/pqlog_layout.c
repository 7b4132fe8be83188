/* See pqlog_layout.h. */
#include "sinks/changelog_parquet/pqlog_layout.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/clock.h"
#include "cdc/base/json.h"
#include "cdc/base/map.h"

enum {
    FOLDER_MAX = 200, /* bytes of a folder's name; file systems have 255 */
    FOLDER_CUT = 180,
    SEQ_DIGITS = 16,
    EPOCH_DIGITS_MAX = 20,
};

static void entry_release(struct pqlog_entry *e) {
    free(e->folder);
    free(e->staged);
    free(e->name);
    free(e->table);
    *e = (struct pqlog_entry){ 0 };
}

void pqlog_entries_release(struct pqlog_entries *e) {
    for (uint32_t i = 0; i < e->count; i++) {
        entry_release(&e->at[i]);
    }
    free(e->at);
    *e = (struct pqlog_entries){ 0 };
}

void pqlog_entries_add(struct pqlog_entries *e, struct pqlog_entry *take_entry) {
    if (e->count == e->cap) {
        e->cap = e->cap ? e->cap * 2 : 8;
        e->at = xrealloc(e->at, e->cap * sizeof *e->at);
    }
    e->at[e->count++] = *take_entry;
    *take_entry = (struct pqlog_entry){ 0 };
}

void pqlog_entries_name(struct pqlog_entries *e, uint64_t seq) {
    struct map *counts = map_new(); /* folder -> files so far, as a pointer's number */
    for (uint32_t i = 0; i < e->count; i++) {
        struct pqlog_entry *x = &e->at[i];
        size_t len = strlen(x->folder);
        uintptr_t n = (uintptr_t)map_get(counts, x->folder, len) + 1;
        map_set(counts, x->folder, len, (void *)n);
        free(x->name);
        x->name = xasprintf("%016" PRIu64 "-%04" PRIuPTR ".parquet", seq, n);
    }
    map_free(counts, NULL);
}

void pqlog_entry_put(struct buf *out, const struct pqlog_entry *e) {
    char *path = xasprintf("%s/%s", e->folder, e->name);
    buf_puts(out, "{\"file\":{\"path\":");
    json_put_cstr(out, path);
    buf_puts(out, ",\"staged\":");
    json_put_cstr(out, e->staged);
    buf_puts(out, ",\"table\":");
    json_put_cstr(out, e->table);
    buf_putf(out, ",\"version\":%" PRIu32 ",\"rows\":%" PRIu64 ",\"bytes\":%" PRIu64, e->version,
             e->rows, e->bytes);
    buf_putf(out, ",\"crc32\":\"%08" PRIx32 "\"}}\n", e->crc);
    free(path);
}

static bool is_data_name(const char *name) {
    size_t digits = strspn(name, "0123456789");
    if (digits != SEQ_DIGITS || name[digits] != '-') {
        return false;
    }
    size_t n = strspn(name + digits + 1, "0123456789");
    return n >= 4 && n <= EPOCH_DIGITS_MAX && strcmp(name + digits + 1 + n, ".parquet") == 0;
}

bool pqlog_is_staged_name(const char *name, uint64_t *epoch) {
    *epoch = 0;
    if (name[0] != '.') {
        return false;
    }
    size_t digits = strspn(name + 1, "0123456789");
    if (digits == 0 || digits > EPOCH_DIGITS_MAX - 1 || name[1 + digits] != '.') {
        return false;
    }
    const char *hex = name + 2 + digits;
    *epoch = strtoull(name + 1, NULL, 10);
    return strspn(hex, "0123456789abcdef") == 16 && hex[16] == '\0';
}

/* One name below DIR, and none that hides what is inside. */
static bool is_folder_name(const char *name) {
    return name[0] && name[0] != '.' && name[0] != '_' && !strchr(name, '/') &&
           strlen(name) <= FOLDER_MAX;
}

static bool count_of(const json_t *object, const char *key, uint64_t *out) {
    const json_t *v = json_object_get(object, key);
    *out = json_is_integer(v) && json_integer_value(v) >= 0 ? (uint64_t)json_integer_value(v) : 0;
    return json_is_integer(v) && json_integer_value(v) >= 0;
}

/* {"path":...}: false if it is not one of ours. */
static bool take_entry(const json_t *file, struct pqlog_entry *out) {
    const char *path = json_string_value(json_object_get(file, "path"));
    const char *staged = json_string_value(json_object_get(file, "staged"));
    const char *table = json_string_value(json_object_get(file, "table"));
    const char *crc = json_string_value(json_object_get(file, "crc32"));
    const char *slash = path ? strrchr(path, '/') : NULL;
    uint64_t version = 0, epoch = 0;
    *out = (struct pqlog_entry){ 0 };
    if (!slash || !staged || !table || !crc || !pqlog_is_staged_name(staged, &epoch) ||
        !is_data_name(slash + 1) || strlen(crc) != 8 || strspn(crc, "0123456789abcdef") != 8 ||
        !count_of(file, "version", &version) || version > UINT32_MAX ||
        !count_of(file, "rows", &out->rows) || !count_of(file, "bytes", &out->bytes)) {
        return false;
    }
    out->folder = xstrndup(path, (size_t)(slash - path));
    if (!is_folder_name(out->folder)) {
        entry_release(out);
        return false;
    }
    out->name = xstrdup(slash + 1);
    out->staged = xstrdup(staged);
    out->table = xstrdup(table);
    out->version = (uint32_t)version;
    out->crc = (uint32_t)strtoul(crc, NULL, 16);
    return true;
}

int pqlog_entries_take(const char *text, size_t len, struct pqlog_entries *out) {
    *out = (struct pqlog_entries){ 0 };
    for (const char *at = text, *end = text + len; at < end;) {
        const char *nl = memchr(at, '\n', (size_t)(end - at));
        json_t *line = nl ? json_loadb(at, (size_t)(nl - at), JSON_REJECT_DUPLICATES, NULL) : NULL;
        const json_t *file = json_object_get(line, "file");
        struct pqlog_entry entry;
        bool good = json_is_object(line) && (!file || take_entry(file, &entry));
        if (good && file) {
            pqlog_entries_add(out, &entry);
        }
        json_decref(line);
        if (!good) {
            pqlog_entries_release(out);
            return -1;
        }
        at = nl + 1;
    }
    return 0;
}

/* Bytes that a shell, a glob, a URL or Hive's key=value folders would take for something else. A
 * leading . or _ hides a folder from readers. */
static void put_name(struct buf *out, const char *name) {
    for (const char *p = name; *p; p++) {
        unsigned char c = (unsigned char)*p;
        bool hides = p == name && (c == '.' || c == '_');
        if (c <= ' ' || c == 0x7f || hides || strchr("/.%\"'*?[]{}\\:=#$&;<>|`!~", c)) {
            buf_putf(out, "%%%02X", c);
        } else {
            buf_putc(out, (char)c);
        }
    }
}

char *pqlog_folder_name(const char *space, const char *name) {
    struct buf out;
    buf_init(&out, SIZE_MAX);
    put_name(&out, space);
    buf_putc(&out, '.');
    put_name(&out, name);
    if (out.len > FOLDER_MAX) {
        uint64_t hash = hash_bytes(out.data, out.len, 0);
        size_t cut = FOLDER_CUT; /* not within a character, nor within a %XX */
        while (cut > 0 && ((unsigned char)out.data[cut] & 0xc0) == 0x80) {
            cut--;
        }
        cut -= cut >= 1 && out.data[cut - 1] == '%'   ? 1
               : cut >= 2 && out.data[cut - 2] == '%' ? 2
                                                      : 0;
        out.len = cut;
        buf_putf(&out, "~%016" PRIx64, hash);
    }
    char *text = xstrdup(buf_cstr(&out));
    buf_release(&out);
    return text;
}

char *pqlog_staged_name(uint64_t epoch) {
    uint64_t random;
    rng_bytes(&random, sizeof random);
    return xasprintf(".%" PRIu64 ".%016" PRIx64, epoch, random);
}
