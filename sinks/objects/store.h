/* A warehouse's files: a flat set of keys ("shop/orders/data/x.parquet") below one root, which is a
 * local folder. Objects are written once, whole, under names that nobody else uses, and are never
 * changed; only store_replace swaps a small one.
 *
 * Durability: a finished object is synced, but its name is durable only once store_settle has
 * synced the folders it was made in; nothing may refer to it before. Whoever makes objects keeps
 * the folders (struct store_folders) and hands them to whoever settles. Errors as files.h has them.
 * Thread: any for the store itself, which never changes; an upload or object has one owner. */
#pragma once
#include "cdc/base/env.h"

/* The cure where a file is lost or damaged and no table can be read again by itself (a table's
 * metadata, a changelog). Where one can: ice_cure_lost_file. */
#define STORE_CURE_LOST                                                                            \
    "bring the file back from a backup; without one: tailrace drop JOB --yes, then the job into "  \
    "an empty folder"

struct store;
struct store_upload;
struct store_object;

/* root: absolute path. Touches nothing. */
struct store *store_of_folder(struct files *files, const char *root);
void store_free(struct store *s); /* NULL allowed */
/* Can names be made in the folder, or it be made in the nearest one that exists? Reads only. */
int store_folder_may_write(struct files *files, const char *folder, struct err *err);
/* Makes the name of a folder that exists durable: syncs what lies above it, up to the root. Folders
 * that are beyond our rights are left to whoever keeps them; a disk that fails is an error. */
int store_folder_keep(struct files *files, const char *folder, struct err *err);
/* Appends "file:///data/lake/shop/x": what metadata names. */
void store_put_url(struct buf *out, const struct store *s, const char *key);
/* The key behind such a URL (file:/x and file:///x are both accepted), borrowed from it; NULL where
 * it is not below the root. */
const char *store_key_of(const struct store *s, const char *url);

/* Folders with names that are not durable yet: keys, each once, in the order met. */
struct store_folders {
    char **at;
    uint32_t count;
};
void store_folders_release(struct store_folders *f);
void store_folders_merge(struct store_folders *into, const struct store_folders *from);

/* A new object; folders above it are made. A name that is taken: ERR_FATAL "object_exists". */
int store_create(struct store *s, const char *key, struct store_upload **out, struct err *err);
int store_write(struct store_upload *u, const void *p, size_t n, struct err *err);
/* Writes what is buffered, syncs, closes. u is freed whatever comes of it; where it failed, the
 * object is removed. size: bytes; may be NULL. */
int store_finish(struct store_upload *u, struct store_folders *folders, uint64_t *size,
                 struct err *err);
void store_abort(struct store_upload *u); /* removes what there is; NULL allowed */
/* create, write, finish. */
int store_put(struct store *s, const char *key, const void *p, size_t n,
              struct store_folders *folders, struct err *err);
/* From here on the names in these folders are durable; the set is emptied. A failure is a REWIND:
 * what a sync has lost, no second one brings back. */
int store_settle(struct store *s, struct store_folders *folders, struct err *err);
/* In place of whatever has that name, atomically; durable at return. */
int store_replace(struct store *s, const char *key, const void *p, size_t n, struct err *err);

/* FILES_ABSENT if there is none. */
enum files_result store_open_object(struct store *s, const char *key, struct store_object **out,
                                    struct err *err);
/* All of it: fewer bytes than asked for are ERR_FATAL "object_short". */
int store_read_at(struct store_object *o, uint64_t off, void *p, size_t n, struct err *err);
uint64_t store_object_size(const struct store_object *o);
const char *store_object_name(const struct store_object *o); /* its path, for errors */
void store_close_object(struct store_object *o);             /* NULL allowed */
/* The whole of a small object. More than out's max: ERR_FATAL "object_too_long". */
enum files_result store_get(struct store *s, const char *key, struct buf *out, struct err *err);
/* One that is not there is fine. */
int store_remove(struct store *s, const char *key, struct err *err);
/* Names directly below a folder, as files_list gives them. */
enum files_result store_list(struct store *s, const char *folder, struct buf *out, struct err *err);
