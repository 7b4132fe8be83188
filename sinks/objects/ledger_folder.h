/* A ledger's folder as it lies on disk: names, commit lines, what the newest file says. Reads only.
 * Thread: the commit task. Errors: those of files.h, and FATAL "<scheme>_damaged",
 * "<scheme>_other_job" (cure in each), "<scheme>_moved", "<scheme>_schema_missing" (EXIT_LINEAGE).
 */
#pragma once
#include "cdc/base/files.h"
#include "cdc/schema.h"

#define LEDGER_POSITION_MAX (8u << 10)

/* Where a ledger lies. Borrowed texts. */
struct ledger_place {
    struct files *files;
    const char *dir;
    const char *scheme; /* of the sink: its errors' codes begin with it */
};
/* "<scheme>_<what>". */
struct ledger_code {
    char text[40];
};
struct ledger_code ledger_code(const struct ledger_place *p, const char *what);

/* The last line of a file. */
struct ledger_line {
    char *job;
    uint64_t epoch, seq, rows;
    char *schema;       /* name of the _schema file; NULL before the first */
    char *position;     /* JSON object, verbatim; NULL = null */
    char *inconsistent; /* JSON array, compact */
};
void ledger_line_release(struct ledger_line *c);
void ledger_line_copy(struct ledger_line *dst, const struct ledger_line *src);
void ledger_line_put(struct buf *out, const struct ledger_line *c); /* with the line feed */
/* A whole line without its line feed; -1 if it is no commit line. */
int ledger_line_take(const char *line, size_t len, struct ledger_line *out) TR_MUST_CHECK;

/* Paths, owned by the caller. */
char *ledger_data_path(const char *dir, uint64_t seq);
char *ledger_idle_path(const char *dir, uint64_t epoch);
char *ledger_schema_name(uint64_t seq, uint64_t epoch);
bool ledger_is_staged_name(const char *name);
bool ledger_is_schema_name(const char *name);
/* Sets the error of a newest file that is gone. Returns -1. */
int ledger_moved(const struct ledger_place *p, uint64_t seq, struct err *err);

/* Highest number of a data file; *seq = 0 if there is none (also without a folder: *exists false).
 * names: the listing. */
int ledger_list(const struct ledger_place *p, struct buf *names, uint64_t *seq, bool *exists,
                struct err *err) TR_MUST_CHECK;
/* What the folder says of the job: the newest file's commit line, with the position of the _idle
 * file where that counts. *found false: no data file. */
int ledger_read(const struct ledger_place *p, const char *job, struct ledger_line *out, bool *found,
                struct err *err) TR_MUST_CHECK;
/* Commit line of one file: FILES_ABSENT without it. A file without a whole commit line is FATAL
 * "<scheme>_damaged". */
enum files_result ledger_read_line(const struct ledger_place *p, const char *path,
                                   struct ledger_line *out, struct err *err) TR_MUST_CHECK;
/* The schemas of a _schema file, as sink_state wants them. */
int ledger_read_schemas(const struct ledger_place *p, const char *name, struct schema ***schemas,
                        uint32_t *count, struct err *err) TR_MUST_CHECK;
/* All of a file of at most 1 GiB; FILES_ABSENT without it, larger is "<scheme>_damaged". */
enum files_result ledger_read_whole(const struct ledger_place *p, const char *path, struct buf *out,
                                    struct err *err) TR_MUST_CHECK;
/* Size and CRC-32 of a file; FILES_ABSENT without it. */
enum files_result ledger_checksum(struct files *files, const char *path, uint64_t *size,
                                  uint32_t *crc, struct err *err) TR_MUST_CHECK;
