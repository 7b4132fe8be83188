/* Failpoints: always compiled in, one predictable branch when none is armed.
 *
 * TAILRACE_FAILPOINTS="NAME=ACTION[@N][;...]": the N-th time (1 if left out) that NAME is reached,
 * ACTION = kill (SIGKILL to ourselves) | stop (SIGSTOP) | exit | error | sleep(MS).
 *   error  FAILPOINT is -1, with an ERR_REWIND of code "failpoint"
 *   exit   ends the process with EXIT_ERROR without any clean-up
 *   NAME   "*" arms all as if each were listed: every name counts for itself. Several entries may
 *          have one name. MS and N are at most 1000000000.
 * TAILRACE_FAILPOINTS_LOG=FILE appends "NAME\n" the first time each name is reached and, before it
 * acts, "NAME!\n" when it fires.
 * A name occurs at one place: FAILPOINT(env->failpoints, "commit.before_rename", err).
 * The simulator arms them through the same struct. Thread: any. */
#pragma once
#include "cdc/base/err.h"

struct failpoints;
/* spec and log_path may be NULL; NULL on a bad spec (code "failpoint_spec") or a log that cannot be
 * opened. */
struct failpoints *failpoints_new(const char *spec, const char *log_path, struct err *err);
void failpoints_free(struct failpoints *fp);
int failpoints_hit(struct failpoints *fp, const char *name, struct err *err);
/* 0, or -1 with err set when the armed action is "error". */
#define FAILPOINT(fp, name, err) (UNLIKELY((fp) != NULL) ? failpoints_hit((fp), (name), (err)) : 0)
