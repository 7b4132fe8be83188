/* The man page and the completion of bash, from the same tables as `help`, whose texts they share.
 * Thread: main. */
#pragma once
#include "config/cmd/cmd.h"

extern const char help_grammar[], help_exit_codes[];
extern const char *const help_topics[];
extern const size_t help_topic_count;
/* "on|off", "size", "text|json": what an option's value is. */
const char *help_kind(const struct opt_spec *option);

/* Each appends: tailrace.1 in the man macros, and a script for bash to read. */
void manual_put(struct buf *out);
void completion_put(struct buf *out);
