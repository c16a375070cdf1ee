/* Enumerators' names for messages, as the header spells them; "none" for a value that is not one of them. Static. */
#ifndef FG_NAMES_H
#define FG_NAMES_H

#include "finegemm.h"

const char *fg_type_name(fg_type type);
const char *fg_scaling_name(fg_scaling scaling);
const char *fg_scale_layout_name(fg_scale_layout layout);
const char *fg_kind_name(fg_kind kind);
const char *fg_group_by_name(fg_group_by group_by);
const char *fg_index_type_name(fg_index_type type);

#endif
