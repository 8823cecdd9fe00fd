/* sections.h - the sections of a module in a file, for save.c and load.c. */
#ifndef IR_SECTIONS_H
#define IR_SECTIONS_H
#include "ir/ir.h"

/* Kinds of atoms are saved by number: never renumber, only append. */
_Static_assert(DIM_SYM == 1 && DIM_FLOORDIV == 4 && DIM_MOD == 5 && DIM_MIN == 6 && DIM_MAX == 7,
               "atoms of dims have frozen codes");
_Static_assert(IR_PLACE_WS == 1 && IR_PLACE_OUT == 2 && IR_PLACE_WS_ROW == 3 &&
                   IR_PLACE_OUT_ROW == 4 && IR_PLACE_IN == 5,
               "places have frozen codes");

#define FILE_SECTION_LIST(X) \
    X(STRS) X(MODL) X(DIMS) X(TYPE) X(ATTR) X(OPNM) X(WGHT) X(FUNC) X(LOCS) X(BLOB)

enum file_section {
#define FILE_ROW(tag) FILE_##tag,
    FILE_SECTION_LIST(FILE_ROW)
#undef FILE_ROW
    FILE_SECTIONS
};

static const char *const ir_file_tags[FILE_SECTIONS] = {
#define FILE_ROW(tag) #tag,
    FILE_SECTION_LIST(FILE_ROW)
#undef FILE_ROW
};

#define FILE_FIELD_CRITICAL 1u          /* a field that a reader must know */
#define FILE_UNCHECKED      1u          /* flag of MODL: ir_module.unchecked */
#define FILE_NO_NAME        0xffffffffu /* a parameter without a name */

#endif
