/* PostgreSQL 14 and newer as a source: the source door (cdc/source.h). */
#pragma once
#include "cdc/source.h"

extern const struct source_ops pgsrc_ops;
