/* See spool.h. */
#include "engine/spool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/map.h"

#define RECORD_HEADER 12u
#define RECORD_BYTES_MAX (UINT32_C(1) << 30)
#define SCRATCH_KEEP (4u << 20)
#define KEEP_BYTES (1u << 20)
#define HASH_SEED UINT64_C(0x7370696c6c)
#define OVERFLOW_ID (UINT64_C(1) << 63)

struct spool_file {
    uint32_t number;
    uint32_t live; /* records not yet dropped */
    uint64_t bytes;
    bool broken; /* a write failed: nothing more is appended */
};

struct spool {
    struct env *env;
    char *dir;
    struct spool_file *files; /* by number, ascending; the last is written to */
    uint32_t count, cap;
    uint32_t next_number;
    struct file *writer; /* of the last file, or NULL */
    struct file *reader; /* of reader_number, or NULL */
    uint32_t reader_number;
    uint64_t bytes;
    struct map *overflow; /* id -> struct batch *, what a full disk refused */
    uint64_t overflow_next;
    bool disk_full;
    struct buf scratch;
};

static char *file_path(const struct spool *s, uint32_t number) {
    return xasprintf("%s/%016x.spool", s->dir, number);
}

static int empty_folder(struct env *env, const char *dir, struct err *err) {
    struct buf names;
    buf_init(&names, 1u << 20);
    int rc = 0;
    if (files_list(env->files, dir, &names, err) == FILES_FAILED) {
        rc = -1;
    }
    for (size_t at = 0; rc == 0 && at < names.len; at += strlen(names.data + at) + 1) {
        const char *name = names.data + at;
        size_t len = strlen(name);
        if (len < 6 || strcmp(name + len - 6, ".spool") != 0) {
            continue; /* not ours */
        }
        char *path = xasprintf("%s/%s", dir, name);
        if (files_unlink(env->files, path, err) == FILES_FAILED) {
            rc = -1;
        }
        free(path);
    }
    buf_release(&names);
    return rc;
}

struct spool *spool_open(struct env *env, struct err *err) {
    char *dir = xasprintf("%s/spill", env->state_dir);
    if (files_mkdirs(env->files, dir, 0700, err) == FILES_FAILED || empty_folder(env, dir, err)) {
        free(dir);
        return NULL;
    }
    struct spool *s = xcalloc(1, sizeof *s);
    s->env = env;
    s->dir = dir;
    s->next_number = 1;
    s->overflow = map_new();
    buf_init(&s->scratch, (size_t)RECORD_BYTES_MAX + RECORD_HEADER);
    return s;
}

/* Removes file i. A file that cannot be removed is left for the next start. */
static void remove_file(struct spool *s, uint32_t i) {
    struct spool_file *f = &s->files[i];
    if (s->writer && i + 1 == s->count) {
        file_close(s->writer);
        s->writer = NULL;
    }
    if (s->reader && s->reader_number == f->number) {
        file_close(s->reader);
        s->reader = NULL;
    }
    char *path = file_path(s, f->number);
    struct err err = ERR_INIT;
    if (files_unlink(s->env->files, path, &err) == FILES_FAILED) {
        log_warn(s->env->log, "merge", "spill_not_removed", "%s", err.text);
    } else {
        s->disk_full = false;
    }
    free(path);
    s->bytes -= f->bytes;
    metric_set(s->env->metrics, METRIC_SPILL_BYTES, (int64_t)s->bytes);
    memmove(f, f + 1, (s->count - i - 1) * sizeof *f);
    s->count--;
}

static void free_batch(void *batch) { batch_unref(batch); }

void spool_close(struct spool *s) {
    if (!s) {
        return;
    }
    while (s->count) {
        remove_file(s, s->count - 1);
    }
    map_free(s->overflow, free_batch);
    buf_release(&s->scratch);
    free(s->files);
    free(s->dir);
    free(s);
}

uint64_t spool_bytes(const struct spool *spool) { return spool->bytes; }

static int open_next_file(struct spool *s, struct err *err) {
    if (s->writer) {
        file_close(s->writer);
        s->writer = NULL;
    }
    if (s->count && s->files[s->count - 1].live == 0) {
        remove_file(s, s->count - 1);
    }
    char *path = file_path(s, s->next_number);
    enum files_result r = files_create_excl(s->env->files, path, &s->writer, err);
    free(path);
    if (r != FILES_OK) {
        s->writer = NULL;
        return r == FILES_FAILED ? -1
                                 : err_set(err, ERR_REWIND, "spool_damaged",
                                           "a spill file of number %u exists", s->next_number);
    }
    if (s->count == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 8;
        s->files = xrealloc(s->files, s->cap * sizeof *s->files);
    }
    s->files[s->count++] = (struct spool_file){ .number = s->next_number++ };
    return 0;
}

static int append(struct spool *s, uint64_t *id, struct err *err) {
    struct spool_file *f = s->count ? &s->files[s->count - 1] : NULL;
    if (!s->writer || f->broken || f->bytes >= SPOOL_FILE_BYTES) {
        if (open_next_file(s, err)) {
            return -1;
        }
        f = &s->files[s->count - 1];
    }
    if (file_write(s->writer, s->scratch.data, s->scratch.len, err)) {
        f->broken = true;
        return -1;
    }
    *id = (uint64_t)f->number << 32 | f->bytes;
    f->bytes += s->scratch.len;
    f->live++;
    s->bytes += s->scratch.len;
    metric_set(s->env->metrics, METRIC_SPILL_BYTES, (int64_t)s->bytes);
    return 0;
}

static void trim_scratch(struct spool *s) {
    if (s->scratch.cap > SCRATCH_KEEP) {
        size_t max = s->scratch.max;
        buf_release(&s->scratch);
        buf_init(&s->scratch, max);
    }
}

/* A full disk refused it: kept in memory until the hybrid algorithm, told by full(), gives a chunk
 * up. */
static void put_overflow(struct spool *s, const struct batch *batch, uint64_t *id) {
    *id = OVERFLOW_ID | ++s->overflow_next;
    map_set(s->overflow, id, sizeof *id, batch_ref((struct batch *)batch));
    if (!s->disk_full) {
        log_warn(s->env->log, "merge", "spill_disk_full",
                 "no space left for held rows in %s: the youngest chunk is given up", s->dir);
    }
    s->disk_full = true;
}

static int disk_put(void *arg, const struct batch *batch, uint64_t *id, struct err *err) {
    struct spool *s = arg;
    buf_clear(&s->scratch);
    static const char header[RECORD_HEADER] = { 0 };
    buf_put(&s->scratch, header, sizeof header);
    batch_encode(&s->scratch, batch);
    uint32_t len = (uint32_t)(s->scratch.len - RECORD_HEADER);
    uint64_t hash = hash_bytes(s->scratch.data + RECORD_HEADER, len, HASH_SEED);
    memcpy(s->scratch.data, &len, sizeof len);
    memcpy(s->scratch.data + sizeof len, &hash, sizeof hash);
    int rc = append(s, id, err);
    if (rc && strcmp(err->code, "disk_full") == 0) {
        err_clear(err);
        put_overflow(s, batch, id);
        rc = 0;
    }
    trim_scratch(s);
    return rc;
}

static struct batch *damaged(const struct spool *s, uint64_t id, const char *why, struct err *err) {
    err_set(err, ERR_REWIND, "spool_damaged", "read %s/%016x.spool at %u: %s", s->dir,
            (uint32_t)(id >> 32), (uint32_t)id, why);
    return NULL;
}

static int open_reader(struct spool *s, uint32_t number, struct err *err) {
    if (s->reader && s->reader_number == number) {
        return 0;
    }
    if (s->reader) {
        file_close(s->reader);
        s->reader = NULL;
    }
    char *path = file_path(s, number);
    enum files_result r = files_open_read(s->env->files, path, &s->reader, err);
    if (r == FILES_ABSENT) {
        err_set(err, ERR_REWIND, "spool_damaged", "open \"%s\": the spill file vanished", path);
    }
    free(path);
    if (r != FILES_OK) {
        s->reader = NULL;
        return -1;
    }
    s->reader_number = number;
    return 0;
}

static struct batch *disk_get(void *arg, uint64_t id, struct schema *schema, struct txlist *txs,
                              struct err *err) {
    struct spool *s = arg;
    if (id & OVERFLOW_ID) {
        struct batch *batch = map_get(s->overflow, &id, sizeof id);
        CHECK(batch);
        return batch_ref(batch);
    }
    if (open_reader(s, (uint32_t)(id >> 32), err)) {
        return NULL;
    }
    uint8_t header[RECORD_HEADER];
    size_t got = 0;
    if (file_read_at(s->reader, (uint32_t)id, header, sizeof header, &got, err)) {
        return NULL;
    }
    uint32_t len;
    uint64_t hash;
    memcpy(&len, header, sizeof len);
    memcpy(&hash, header + sizeof len, sizeof hash);
    if (got < sizeof header || len > RECORD_BYTES_MAX) {
        return damaged(s, id, "the record's head is not whole", err);
    }
    buf_clear(&s->scratch);
    if (buf_reserve(&s->scratch, len)) {
        return damaged(s, id, "the record is too long", err);
    }
    struct batch *batch = NULL;
    if (file_read_at(s->reader, (uint64_t)(uint32_t)id + RECORD_HEADER, s->scratch.data, len, &got,
                     err) == 0) {
        if (got < len || hash_bytes(s->scratch.data, len, HASH_SEED) != hash) {
            damaged(s, id, "its bytes are not those that were written", err);
        } else {
            batch = batch_decode(s->scratch.data, len, schema, txs, err);
        }
    }
    trim_scratch(s);
    return batch;
}

static bool disk_full(void *arg) {
    const struct spool *s = arg;
    return s->disk_full || s->bytes >= s->env->spill_bytes_max;
}

static void disk_drop(void *arg, uint64_t id) {
    struct spool *s = arg;
    if (id & OVERFLOW_ID) {
        batch_unref(map_remove(s->overflow, &id, sizeof id));
        if (map_count(s->overflow) == 0) {
            s->disk_full = false;
        }
        return;
    }
    uint32_t number = (uint32_t)(id >> 32);
    for (uint32_t i = 0; i < s->count; i++) {
        struct spool_file *f = &s->files[i];
        if (f->number == number) {
            CHECK(f->live > 0);
            /* A short file that is still written to stays: it would only be created again. */
            if (--f->live == 0 &&
                (i + 1 < s->count || f->bytes >= KEEP_BYTES || f->broken || disk_full(s))) {
                remove_file(s, i);
            }
            return;
        }
    }
    CHECK(!"a record of the spool was dropped twice");
}

const struct spool_ops spool_disk_ops = {
    .put = disk_put, .get = disk_get, .drop = disk_drop, .full = disk_full
};
