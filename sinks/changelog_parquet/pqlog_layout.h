/* Names in a folder of Parquet changelogs, and the lines of its commit files that name data files.
 * See pqlog.h. Pure; commit files are foreign data. Thread: any. */
#pragma once
#include "cdc/base/buf.h"
#include "cdc/base/check.h"

/* A data file of a commit. Texts owned. */
struct pqlog_entry {
    char *folder; /* below DIR, one name */
    char *staged; /* name in it before the commit */
    char *name;   /* ... and after; NULL until the commit's number is known */
    char *table;  /* label */
    uint32_t version;
    uint64_t rows, bytes;
    uint32_t crc; /* CRC-32 of all its bytes */
};
struct pqlog_entries {
    struct pqlog_entry *at;
    uint32_t count, cap;
};
void pqlog_entries_release(struct pqlog_entries *e);
/* Takes what entry owns. */
void pqlog_entries_add(struct pqlog_entries *e, struct pqlog_entry *take_entry);
/* The visible names: number seq, and counted a folder. The same seq gives the same names. */
void pqlog_entries_name(struct pqlog_entries *e, uint64_t seq);

void pqlog_entry_put(struct buf *out, const struct pqlog_entry *e); /* with the line feed */
/* All `file` lines of a commit file. -1: one of them is malformed, or names what is outside. */
int pqlog_entries_take(const char *text, size_t len, struct pqlog_entries *out) TR_MUST_CHECK;

/* Owned by the caller. */
char *pqlog_folder_name(const char *space, const char *name);
char *pqlog_staged_name(uint64_t epoch);
/* Is it a staged name? *epoch: of the instance that made it. */
bool pqlog_is_staged_name(const char *name, uint64_t *epoch);
