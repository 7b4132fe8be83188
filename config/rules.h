/* What the rules of a job say of a table: the last match wins, for each action by itself; skip and
 * keep are one action with two answers. Without a rule a table is kept. Pure. Thread: any. */
#pragma once
#include "cdc/source.h"
#include "config/job_text.h"

/* Glob: * = any characters, ? = one character; everything else, case too, as it is. */
bool glob_match(const char *glob, const char *text);
bool rule_matches(const struct rule *rule, const char *space, const char *name);
/* A table_select_fn; rules is a struct job_text. */
void rules_select(const void *job_text, const char *space, const char *name,
                  struct table_choice *out);
/* True for a keep that undoes nothing: no rule before it skips. */
bool rule_keeps_for_nothing(const struct job_text *text, uint32_t index);
