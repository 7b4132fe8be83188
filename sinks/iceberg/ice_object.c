/* See ice_object.h. */
#include "sinks/iceberg/ice_object.h"

#include <string.h>

static const char *key_of(struct store *store, const char *url, struct err *err) {
    const char *key = store_key_of(store, url);
    if (!key) {
        err_set(err, ERR_FATAL, "object_outside",
                "the table names \"%s\", which is not below the warehouse", url);
        err_cure(err, "was the warehouse moved? its tables hold absolute paths: move it back");
    }
    return key;
}

static int absent(const char *url, struct err *err) {
    err_set(err, ERR_FATAL, "object_missing", "the table names \"%s\", which is not there", url);
    return err_cure(err, "%s", STORE_CURE_LOST);
}

void ice_cure_lost_file(const char *label, struct err *err) {
    static const char *const codes[] = { "object_missing", "object_short", "parquet_damaged",
                                         "manifest_damaged", "deletes_damaged" };
    for (size_t i = 0; i < ARRAY_COUNT(codes); i++) {
        if (strcmp(err->code, codes[i]) == 0) {
            err_cure(err,
                     "bring the file back from a backup; without one have the table read again: "
                     "run the job once with the line `%s: skip`, then without it",
                     label);
        }
    }
}

int ice_object_get(struct store *store, const char *url, struct buf *out, struct err *err) {
    const char *key = key_of(store, url, err);
    if (!key) {
        return -1;
    }
    enum files_result got = store_get(store, key, out, err);
    return got == FILES_OK ? 0 : got == FILES_ABSENT ? absent(url, err) : -1;
}

int ice_object_open(struct store *store, const char *url, struct store_object **out,
                    struct err *err) {
    const char *key = key_of(store, url, err);
    if (!key) {
        return -1;
    }
    enum files_result got = store_open_object(store, key, out, err);
    return got == FILES_OK ? 0 : got == FILES_ABSENT ? absent(url, err) : -1;
}

static int read_object(void *arg, uint64_t off, void *p, size_t n, struct err *err) {
    return store_read_at(arg, off, p, n, err);
}

int ice_parquet_open(struct ice_parquet *p, struct store *store, const char *url, struct err *err) {
    *p = (struct ice_parquet){ 0 };
    if (ice_object_open(store, url, &p->object, err)) {
        return -1;
    }
    struct parquet_input input = { .read_at = read_object,
                                   .arg = p->object,
                                   .size = store_object_size(p->object),
                                   .name = store_object_name(p->object) };
    if (parquet_reader_open(input, ICE_PAGE_BYTES_MAX, &p->reader, err)) {
        ice_parquet_close(p);
        return -1;
    }
    return 0;
}

void ice_parquet_close(struct ice_parquet *p) {
    parquet_reader_close(p->reader);
    store_close_object(p->object);
    *p = (struct ice_parquet){ 0 };
}
