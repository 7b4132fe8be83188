/* The folder as it lies on disk: names, commit lines, what the newest file says. Reads only.
 * Thread: the commit task. Errors: those of files.h, and FATAL "jsonl_damaged", "jsonl_other_job"
 * (cure in each), "jsonl_moved", "jsonl_schema_missing" (EXIT_LINEAGE). */
#pragma once
#include "cdc/base/files.h"
#include "cdc/schema.h"

#define JSONL_POSITION_MAX (8u << 10)

/* The last line of a file. */
struct jsonl_commit {
    char *job;
    uint64_t epoch, seq, rows;
    char *schema;       /* name of the _schema file; NULL before the first */
    char *position;     /* JSON object, verbatim; NULL = null */
    char *inconsistent; /* JSON array, compact */
};
void jsonl_commit_release(struct jsonl_commit *c);
void jsonl_commit_copy(struct jsonl_commit *dst, const struct jsonl_commit *src);
void jsonl_commit_put(struct buf *out, const struct jsonl_commit *c); /* with the line feed */
/* A whole line without its line feed; -1 if it is no commit line. */
int jsonl_commit_take(const char *line, size_t len, struct jsonl_commit *out) TR_MUST_CHECK;

/* Paths, owned by the caller. */
char *jsonl_data_path(const char *dir, uint64_t seq);
char *jsonl_idle_path(const char *dir, uint64_t epoch);
char *jsonl_schema_name(uint64_t seq, uint64_t epoch);
bool jsonl_is_staged_name(const char *name);
bool jsonl_is_schema_name(const char *name);
/* Sets the error of a newest file that is gone. Returns -1. */
int jsonl_moved(const char *dir, uint64_t seq, struct err *err);

/* Highest number of a data file; *seq = 0 if there is none (also without a folder: *exists false).
 * names: the listing. */
int jsonl_list(struct files *files, const char *dir, struct buf *names, uint64_t *seq, bool *exists,
               struct err *err) TR_MUST_CHECK;
/* What the folder says of the job: the newest file's commit line, with the position of the _idle
 * file where that counts. *found false: no data file. */
int jsonl_read(struct files *files, const char *dir, const char *job, struct jsonl_commit *out,
               bool *found, struct err *err) TR_MUST_CHECK;
/* Commit line of one file: FILES_ABSENT without it. A file without a whole commit line is FATAL
 * "jsonl_damaged". */
enum files_result jsonl_read_commit(struct files *files, const char *path, struct jsonl_commit *out,
                                    struct err *err) TR_MUST_CHECK;
/* The schemas of a _schema file, as sink_state wants them. */
int jsonl_read_schemas(struct files *files, const char *dir, const char *name,
                       struct schema ***schemas, uint32_t *count, struct err *err) TR_MUST_CHECK;
/* Size and CRC-32 of a file; FILES_ABSENT without it. */
enum files_result jsonl_checksum(struct files *files, const char *path, uint64_t *size,
                                 uint32_t *crc, struct err *err) TR_MUST_CHECK;
