/* The iceberg sink's writer: rows to the stages of their tables, and at a seal what all of them
 * made. Thread: its writer task. Shares nothing with the commit side but parts; it reads the
 * catalog through a connection of its own. */
#pragma once
#include "sinks/iceberg/ice_stage.h"

struct ice_writer_config {
    struct env *env;
    const struct sink_ops *ops;
    const char *folder;            /* the warehouse */
    struct ice_stage_config stage; /* but for index_dir; memory is all writers' */
    uint32_t writers;              /* that share the memory */
};
int ice_writer_open(const struct ice_writer_config *config, uint32_t number,
                    struct sink_writer **out, struct err *err);
void ice_writer_close(struct sink_writer *w);
int ice_writer_stage(struct sink_writer *w, const struct stage_item *item, struct err *err);
int ice_writer_seal(struct sink_writer *w, uint64_t seq, struct sink_part **out, struct err *err);
void ice_writer_part_free(struct sink_part *part, bool committed);
/* The commit side met what only a wrong key index can have said: the writer that is opened next
 * does not take what is stored of it. Thread: any. */
void ice_writer_void_index(const struct env *env, const char *label);
