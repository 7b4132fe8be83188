/* jsonl:///abs/dir : a folder of changelog files, one a commit. INTERFACE ("JSONL") is its format;
 * who may rename what, and why that is exact, is told at the top of sinks/objects/ledger.c. The
 * door's contract is cdc/sink.h. */
#pragma once
#include "cdc/sink.h"

extern const struct sink_ops jsonl_ops;
