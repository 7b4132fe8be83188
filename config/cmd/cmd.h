/* What the commands share: the command line taken apart, the jobs it names, and the folders of this
 * machine. Thread: the main thread. */
#pragma once
#include "cdc/base/env.h"
#include "config/job_spec.h"

/* The options of the command line, each also TAILRACE_<NAME>. */
extern const struct opt_spec command_options[];

struct command_line {
    const char *command; /* "run"; NULL = none given */
    char **words;        /* behind the command; borrowed from argv; a NULL ends them */
    int word_count;
    struct opts *opts;
    const char *form; /* of help: "docs", "man" or "completion"; NULL = for reading */
    struct log log;   /* without a job */
};
struct command {
    const char *name;
    const char *form; /* "run JOB..." */
    const char *doc;  /* one line */
    int (*run)(struct command_line *line);
};
extern const struct command commands[];
extern const size_t command_count;

/* Each returns an exit code. */
int cmd_run(struct command_line *line);
int cmd_once(struct command_line *line);
int cmd_plan(struct command_line *line);
int cmd_status(struct command_line *line);
int cmd_slots(struct command_line *line);
int cmd_drop(struct command_line *line);
int cmd_help(struct command_line *line);
int cmd_usage(struct command_line *line); /* no command at all: what there is, on standard error */
int cmd_not_built(struct command_line *line);

/* Logs `what` as an error of usage and returns EXIT_USAGE. cure may be NULL. */
int usage_error(struct log *log, const char *code, const char *cure, const char *fmt, ...)
    TR_PRINTF(4, 5);
/* Logs the error and returns its exit code. */
int report_error(struct log *log, const char *part, const struct err *err);
static inline int worse(int a, int b) { return a > b ? a : b; }
/* Writes an answer to standard output; an exit code. */
int put_answer(struct log *log, const struct buf *text);

/* The jobs that words name: files, folders of *.sync, lines, or SOURCE and SINK. */
struct jobs {
    struct job_spec **at; /* the good ones */
    uint32_t count;
    int code; /* EXIT_DONE, or the worst of what was wrong; already logged */
};
void jobs_load(struct command_line *line, enum job_spec_need need, struct jobs *out);
void jobs_release(struct jobs *jobs);
/* -> EXIT_USAGE with the line to paste, if the shell took an unquoted arrow for a redirection; else
 * EXIT_DONE. */
int arrow_was_taken(struct command_line *line);

/* Folders. Strings are owned by the caller. NULL with err when there is none (no HOME). */
char *state_root(const struct command_line *line, struct err *err);
/* Where <job>.sock may lie, in the order in which a server tries them; NULL ends the list, at most
 * 4 entries. state may be NULL. */
void socket_dirs(const char *state, char *dirs[5]);
void socket_dirs_free(char *dirs[5]);

/* The world of one job; state_dir and all the rest live in it. */
struct job_world {
    struct env env;
    struct log log;
    struct metrics metrics;
    char *state_dir;
};
/* share: the part of --memory for it. */
int job_world_init(struct job_world *w, const struct command_line *line,
                   const struct job_spec *spec, struct failpoints *failpoints,
                   uint64_t memory_bytes, struct err *err);
void job_world_release(struct job_world *w);
