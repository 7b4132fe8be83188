/* stdout: : the lines of jsonl: on standard output, without commit lines. Owns no position:
 * at-least-once. A closed pipe is FATAL "stdout_closed" (where SIGPIPE does not end the process
 * first). */
#pragma once
#include "cdc/sink.h"

extern const struct sink_ops stdout_ops;
