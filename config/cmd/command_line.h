/* From argv to a command. Thread: main. */
#pragma once
#include "config/cmd/cmd.h"

/* -1: a mistake of usage; line->log is set as far as it was understood. */
int command_line_init(struct command_line *line, int argc, char **argv, struct err *err);
void command_line_release(struct command_line *line);
/* Returns the exit code. */
int command_line_run(struct command_line *line);
/* log-level -> TAILRACE_LOG_LEVEL */
void command_env_name(const char *key, char out[64]);
