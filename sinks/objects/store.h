/* A warehouse's files: a flat set of keys ("shop/orders/data/x.parquet") below one root, which is a
 * local folder today and a bucket later. Objects are written once, whole, under names nobody else uses, and never
 * changed; only store_replace swaps a small one.
 *
 * Durability: an object that was finished is durable only after store_settle, which syncs the folders that
 * got new names since the last settle (a bucket: nothing to do). Nothing may refer to an object before. Errors as
 * files.h says. Thread: one owner each for uploads and inputs; store_* calls themselves: any task. Locks: one,
 * around the list of unsettled folders. */
#pragma once
#include "cdc/base/env.h"

struct store;
struct store_upload;
struct store_object;

/* root: absolute path. Touches nothing. */
struct store *store_of_folder(struct files *files, const char *root);
void store_free(struct store *s); /* NULL allowed */
/* "file:///data/lake/shop/..." : what metadata names. put appends. key_of: NULL where the URL is not below
 * the root (accepts file:/x and file:///x); else the key, borrowed from url. */
void store_put_url(struct buf *out, const struct store *s, const char *key);
const char *store_key_of(const struct store *s, const char *url);

/* The name must be new: an existing one is ERR_FATAL "object_exists". Parents are made. */
int store_create(struct store *s, const char *key, struct store_upload **out, struct err *err);
int store_write(struct store_upload *u, const void *p, size_t n, struct err *err);
/* Synced and closed; u is freed in any case. */
int store_finish(struct store_upload *u, uint64_t *size, struct err *err);
void store_abort(struct store_upload *u); /* removes what there is; NULL allowed */
int store_put(struct store *s, const char *key, const void *p, size_t n, struct err *err); /* create, write, finish */
int store_settle(struct store *s, struct err *err);
/* Atomically in place of whatever has that name (version-hint.text), durable at return. */
int store_replace(struct store *s, const char *key, const void *p, size_t n, struct err *err);

/* FILES_ABSENT if there is none. */
enum files_result store_open_object(struct store *s, const char *key, struct store_object **out, struct err *err);
int store_read_at(struct store_object *o, uint64_t off, void *p, size_t n, struct err *err); /* short = ERR_FATAL "object_short" */
uint64_t store_object_size(const struct store_object *o);
void store_close_object(struct store_object *o); /* NULL allowed */
/* The whole of a small one. More than out's max: ERR_FATAL "object_too_long". */
enum files_result store_get(struct store *s, const char *key, struct buf *out, struct err *err);
/* Absent is fine. */
int store_remove(struct store *s, const char *key, struct err *err);
/* Names directly below a folder key, as files_list gives them. */
enum files_result store_list(struct store *s, const char *folder, struct buf *out, struct err *err);
