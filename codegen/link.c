/* link.c - relocatable ELF64 objects become an image.
 *
 * The objects come from LLVM, and are still read as if they came from a stranger: every offset,
 * index and count is checked before use.  Allocated sections without contents to write are laid out
 * as read-only data, then text, object after object; relocations between them are applied for good,
 * since the distance of data and text never changes.  An undefined symbol is a global function of
 * another object.  What cannot be settled now is refused by name: symbols that are undefined
 * everywhere, writable data, absolute addresses (they would need a relocation at load time).
 *
 * The image is one block: header, symbols (functions only), names, data at a page, text at a
 * page. */
#include "codegen/target.h"
#include "runtime/base/str.h"
#include "runtime/base/vec.h"
#include <elf.h>
#include <stdlib.h>
#include <string.h>

#define LINK_MAX_IMAGE (UINT64_C(1) << 31) /* the reach of a 32-bit displacement */
#define LINK_NOWHERE   UINT64_MAX

typedef struct link_object {
    const uint8_t *elf; /* borrowed */
    size_t n;
    uint32_t nsec;
    Elf64_Shdr *sec; /* owned copy: the object may be unaligned */
    uint64_t *place; /* owned: offset of each section in the image, or LINK_NOWHERE */
    const uint8_t *sym;
    uint64_t nsym;
    const char *str;
    uint64_t str_size;
    uint32_t unwind; /* the section of call frames, or 0 */
} link_object;

/* A function: where it is and what it is called. */
typedef struct link_func {
    const char *name;
    const link_object *object;
    uint32_t section;
    bool global;
    uint64_t value, size;
} link_func;

typedef struct link {
    const ig_allocator *alloc;
    const cg_cpu *cpu;
    uint32_t nobject;
    link_object *object; /* owned */
    RT_VEC(link_func) funcs;
    RT_VEC(const link_func *) by_name; /* the global ones */
    rt_str names;
    rt_image_header head;
    const cg_import *import; /* borrowed */
    uint32_t nimport;
    uint8_t *image; /* owned until handed out; head.size bytes */
} link;

#define LINK_FAIL(l, ...) rt_fail((l)->alloc, IG_FORMAT, __VA_ARGS__)

/* --- Reading --- */

static bool link_is_range(uint64_t off, uint64_t size, uint64_t end) {
    return off <= end && size <= end - off;
}

static uint32_t link_machine(const cg_cpu *cpu) {
    return cpu->arch == RT_ARCH_AARCH64 ? EM_AARCH64 : EM_X86_64;
}

static bool link_is_alloc(const Elf64_Shdr *s) { return s->sh_flags & SHF_ALLOC && s->sh_size; }
static bool link_is_text(const Elf64_Shdr *s) { return s->sh_flags & SHF_EXECINSTR; }

/* Symbol number i; i < nsym. */
static Elf64_Sym link_symbol(const link_object *o, uint64_t i) {
    Elf64_Sym s;
    memcpy(&s, o->sym + i * sizeof s, sizeof s);
    return s;
}

/* A symbol's name; for a section symbol, "a section". */
static const char *link_name(const link_object *o, const Elf64_Sym *s) {
    if (!s->st_name) return "a section";
    return s->st_name < o->str_size ? o->str + s->st_name : "?";
}

/* Find the call frames, which come first in the data so that the loader knows where they are. */
static void link_find_unwind(link_object *o, uint32_t shstrndx) {
    static const char name[] = ".eh_frame";
    if (shstrndx >= o->nsec || o->sec[shstrndx].sh_type != SHT_STRTAB) return;
    const Elf64_Shdr *names = &o->sec[shstrndx];
    for (uint32_t i = 1; i < o->nsec && !o->unwind; i++)
        if (link_is_alloc(&o->sec[i]) && !link_is_text(&o->sec[i]) &&
            link_is_range(o->sec[i].sh_name, sizeof name, names->sh_size) &&
            !memcmp(o->elf + names->sh_offset + o->sec[i].sh_name, name, sizeof name))
            o->unwind = i;
}

/* Copy the section table. */
static ig_status link_read_sections(link *l, link_object *o) {
    Elf64_Ehdr eh;
    if (!o->elf || o->n < sizeof eh) return LINK_FAIL(l, "object file too short");
    memcpy(&eh, o->elf, sizeof eh);
    if (memcmp(eh.e_ident, ELFMAG, SELFMAG) || eh.e_ident[EI_CLASS] != ELFCLASS64 ||
        eh.e_ident[EI_DATA] != ELFDATA2LSB || eh.e_type != ET_REL)
        return LINK_FAIL(l, "not a relocatable ELF64 object");
    if (eh.e_machine != link_machine(l->cpu))
        return LINK_FAIL(l, "object file for another machine than %s", l->cpu->name);
    if (!eh.e_shnum || eh.e_shentsize != sizeof(Elf64_Shdr) ||
        !link_is_range(eh.e_shoff, (uint64_t)eh.e_shnum * sizeof(Elf64_Shdr), o->n))
        return LINK_FAIL(l, "malformed section table");
    o->nsec = eh.e_shnum;
    o->sec = rt_alloc(l->alloc, o->nsec * sizeof *o->sec);
    o->place = rt_alloc(l->alloc, o->nsec * sizeof *o->place);
    if (!o->sec || !o->place) return rt_fail_memory();
    memcpy(o->sec, o->elf + eh.e_shoff, o->nsec * sizeof *o->sec);
    for (uint32_t i = 0; i < o->nsec; i++) {
        o->place[i] = LINK_NOWHERE;
        if (o->sec[i].sh_type != SHT_NOBITS &&
            !link_is_range(o->sec[i].sh_offset, o->sec[i].sh_size, o->n))
            return LINK_FAIL(l, "section %u lies outside the object", i);
    }
    link_find_unwind(o, eh.e_shstrndx);
    return NULL;
}

/* Find the symbol table. */
static ig_status link_read_symbols(link *l, link_object *o) {
    for (uint32_t i = 0; i < o->nsec; i++) {
        const Elf64_Shdr *s = &o->sec[i];
        if (s->sh_type != SHT_SYMTAB) continue;
        if (o->sym) return LINK_FAIL(l, "two symbol tables");
        if (s->sh_link >= o->nsec || o->sec[s->sh_link].sh_type != SHT_STRTAB ||
            !o->sec[s->sh_link].sh_size)
            return LINK_FAIL(l, "the symbol table has no names");
        o->sym = o->elf + s->sh_offset;
        o->nsym = s->sh_size / sizeof(Elf64_Sym);
        o->str = (const char *)o->elf + o->sec[s->sh_link].sh_offset;
        o->str_size = o->sec[s->sh_link].sh_size;
        if (o->str[o->str_size - 1]) return LINK_FAIL(l, "symbol names do not end");
    }
    if (!o->sym) return LINK_FAIL(l, "no symbol table");
    for (uint64_t i = 1; i < o->nsym; i++)
        if (link_symbol(o, i).st_name >= o->str_size)
            return LINK_FAIL(l, "a symbol's name lies outside the names");
    return NULL;
}

/* --- Functions --- */

/* Collect those of an object. */
static ig_status link_collect(link *l, const link_object *o) {
    for (uint64_t i = 1; i < o->nsym; i++) {
        Elf64_Sym s = link_symbol(o, i);
        if (ELF64_ST_TYPE(s.st_info) != STT_FUNC || s.st_shndx >= o->nsec) continue;
        const Elf64_Shdr *sec = &o->sec[s.st_shndx];
        if (!link_is_alloc(sec) || !link_is_text(sec)) continue;
        if (!link_is_range(s.st_value, s.st_size, sec->sh_size) || s.st_value >= sec->sh_size)
            return LINK_FAIL(l, "function `%s` lies outside its section", link_name(o, &s));
        link_func f = {.name = link_name(o, &s),
                       .object = o,
                       .section = s.st_shndx,
                       .global = ELF64_ST_BIND(s.st_info) == STB_GLOBAL,
                       .value = s.st_value,
                       .size = s.st_size};
        rt_str_add(&l->names, f.name, strlen(f.name) + 1);
        if (l->names.n > UINT32_MAX / 2) return LINK_FAIL(l, "too many names");
        if (l->names.failed || !rt_vec_push(l->alloc, &l->funcs, f)) return rt_fail_memory();
    }
    return NULL;
}

static int link_compare(const void *x, const void *y) {
    const link_func *const *f = x, *const *g = y;
    return strcmp((*f)->name, (*g)->name);
}

/* The global function of that name, or NULL. */
static const link_func *link_find(const link *l, const char *name) {
    const link_func key = {.name = name}, *at = &key, *const *found = NULL;
    if (l->by_name.n)
        found = bsearch(&at, l->by_name.data, l->by_name.n, sizeof *l->by_name.data, link_compare);
    return found ? *found : NULL;
}

/* Every symbol that an object leaves undefined must be a function of another one. */
static ig_status link_resolve(link *l) {
    for (uint32_t i = 0; i < l->funcs.n; i++)
        if (l->funcs.data[i].global && !rt_vec_push(l->alloc, &l->by_name, &l->funcs.data[i]))
            return rt_fail_memory();
    if (l->by_name.n) qsort(l->by_name.data, l->by_name.n, sizeof *l->by_name.data, link_compare);
    for (uint32_t i = 1; i < l->by_name.n; i++)
        if (!link_compare(&l->by_name.data[i - 1], &l->by_name.data[i]))
            return LINK_FAIL(l, "two functions are called `%s`", l->by_name.data[i]->name);
    for (const link_object *o = l->object; o < l->object + l->nobject; o++)
        for (uint64_t i = 1; i < o->nsym; i++) {
            Elf64_Sym s = link_symbol(o, i);
            if (s.st_shndx == SHN_UNDEF && !link_find(l, link_name(o, &s)))
                return rt_fail(l->alloc, IG_UNSUPPORTED,
                               "compiled code must stand alone, but `%s` is undefined",
                               link_name(o, &s));
        }
    return NULL;
}

/* --- Layout --- */

static uint64_t link_round(uint64_t x, uint64_t to) { return (x + to - 1) & ~(to - 1); }

/* Place one section at or after offset `at`. */
static ig_status link_place(link *l, link_object *o, uint32_t i, uint64_t *at) {
    const Elf64_Shdr *s = &o->sec[i];
    uint64_t align = s->sh_addralign ? s->sh_addralign : 1;
    if (s->sh_flags & SHF_WRITE)
        return rt_fail(l->alloc, IG_UNSUPPORTED, "compiled code has writable data");
    if (s->sh_flags & SHF_TLS)
        return rt_fail(l->alloc, IG_UNSUPPORTED, "compiled code has thread-local data");
    if (align & (align - 1) || align > RT_IMAGE_PAGE)
        return LINK_FAIL(l, "alignment of section %u", i);
    if (s->sh_size > LINK_MAX_IMAGE || link_round(*at, align) > LINK_MAX_IMAGE - s->sh_size)
        return rt_fail(l->alloc, IG_UNSUPPORTED, "compiled code is larger than 2 GiB");
    o->place[i] = link_round(*at, align);
    *at = o->place[i] + s->sh_size;
    return NULL;
}

/* Place the call frames of all objects without a gap, which would end the list. */
static ig_status link_place_unwind(link *l, uint64_t *at) {
    for (link_object *o = l->object; o < l->object + l->nobject; o++) {
        uint64_t end = *at;
        if (!o->unwind) continue;
        RT_TRY(link_place(l, o, o->unwind, at));
        if (o->place[o->unwind] != end) return LINK_FAIL(l, "call frames end unaligned");
    }
    return NULL;
}

/* Place the data sections (text = false) or the text sections, the call frames first. */
static ig_status link_place_all(link *l, bool text, uint64_t *at) {
    if (!text) {
        uint64_t from = *at;
        RT_TRY(link_place_unwind(l, at));
        l->head.unwind_size = (uint32_t)(*at - from);
    }
    for (link_object *o = l->object; o < l->object + l->nobject; o++)
        for (uint32_t i = 0; i < o->nsec; i++)
            if (link_is_alloc(&o->sec[i]) && link_is_text(&o->sec[i]) == text && i != o->unwind)
                RT_TRY(link_place(l, o, i, at));
    return NULL;
}

/* Decide all offsets and allocate the image. */
static ig_status link_layout(link *l) {
    rt_image_header *h = &l->head;
    memcpy(h->magic, RT_IMAGE_MAGIC, sizeof RT_IMAGE_MAGIC);
    h->version = RT_IMAGE_VERSION;
    h->arch = l->cpu->arch;
    h->features = l->cpu->feature;
    strncpy(h->level, l->cpu->name, sizeof h->level - 1);
    for (uint32_t i = 0; i < l->nimport; i++)
        rt_str_add(&l->names, l->import[i].name, strlen(l->import[i].name) + 1);
    if (l->names.failed) return rt_fail_memory();
    h->nsym = l->funcs.n + l->nimport;
    h->sym_off = sizeof *h;
    h->str_off = h->sym_off + (uint64_t)h->nsym * sizeof(rt_image_symbol);
    h->str_size = l->names.n;
    uint64_t at = h->data_off = link_round(h->str_off + h->str_size, RT_IMAGE_PAGE);
    RT_TRY(link_place_all(l, false, &at));
    h->data_size = at - h->data_off;
    at = h->text_off = link_round(at, RT_IMAGE_PAGE);
    RT_TRY(link_place_all(l, true, &at));
    h->text_size = at - h->text_off;
    h->size = at;
    l->image = rt_alloc_zero(l->alloc, h->size);
    return l->image ? NULL : rt_fail_memory();
}

/* Copy the contents of the sections. */
static void link_copy(link *l, const link_object *o) {
    for (uint32_t i = 0; i < o->nsec; i++)
        if (o->place[i] != LINK_NOWHERE && o->sec[i].sh_type != SHT_NOBITS)
            memcpy(l->image + o->place[i], o->elf + o->sec[i].sh_offset, o->sec[i].sh_size);
}

/* Write the table of functions and their names. */
static void link_write_symbols(link *l) {
    uint8_t *at = l->image + l->head.sym_off;
    uint64_t name = 0;
    for (uint32_t i = 0; i < l->funcs.n; i++) {
        const link_func *f = &l->funcs.data[i];
        rt_image_symbol s = {.off = f->object->place[f->section] + f->value - l->head.text_off,
                             .size = f->size,
                             .name = (uint32_t)name};
        memcpy(at + i * sizeof s, &s, sizeof s);
        name += strlen(f->name) + 1;
    }
    for (uint32_t i = 0; i < l->nimport; i++) {
        rt_image_symbol s = {
            .off = (uint64_t)l->import[i].version, .name = (uint32_t)name, .import = i + 1};
        memcpy(at + (l->funcs.n + i) * sizeof s, &s, sizeof s);
        name += strlen(l->import[i].name) + 1;
    }
    if (l->head.str_size) memcpy(l->image + l->head.str_off, l->names.data, l->head.str_size);
}

/* --- Relocations.  Addresses are offsets in the image: P the place, S + A the target.  Every
 * rule gives false when the value does not fit or the instruction is not the expected one. --- */

typedef struct fix {
    uint8_t *at;
    uint64_t room;
    int64_t p, sa;
} fix; /* room: bytes from `at` to the section's end */

/* Store a signed value of 4 or 8 bytes. */
static bool fix_store(const fix *f, int64_t x, size_t bytes) {
    if (f->room < bytes || (bytes == 4 && x != (int32_t)x)) return false;
    for (size_t i = 0; i < bytes; i++) f->at[i] = (uint8_t)((uint64_t)x >> (8 * i));
    return true;
}

/* A load of an address from a table becomes the computation of the address: mov (8b) to lea
 * (8d). */
static bool fix_got_load(const fix *f, const uint8_t *start) {
    if (f->at - start < 2 || f->at[-2] != 0x8b || (f->at[-1] & 0xc7) != 0x05) return false;
    if (!fix_store(f, f->sa - f->p, 4)) return false;
    f->at[-2] = 0x8d;
    return true;
}

static bool fix_x86(const fix *f, uint32_t type, const uint8_t *start) {
    switch (type) {
    case R_X86_64_NONE: return true;
    case R_X86_64_PC32:
    case R_X86_64_PLT32: return fix_store(f, f->sa - f->p, 4);
    case R_X86_64_PC64: return fix_store(f, f->sa - f->p, 8);
    case R_X86_64_GOTPCRELX:
    case R_X86_64_REX_GOTPCRELX: return fix_got_load(f, start);
    default: return false;
    }
}

/* Put `bits` bits of x into an instruction at position `pos`. */
static bool fix_insn(const fix *f, uint64_t x, int bits, int pos) {
    if (f->room < 4) return false;
    uint32_t insn = 0, mask = (UINT32_MAX >> (32 - bits)) << pos;
    for (int i = 3; i >= 0; i--) insn = insn << 8 | f->at[i];
    insn = (insn & ~mask) | ((uint32_t)(x << pos) & mask);
    for (int i = 0; i < 4; i++) f->at[i] = (uint8_t)(insn >> (8 * i));
    return true;
}

/* ADRP: the distance in pages, in immlo (29..30) and immhi (5..23). */
static bool fix_adrp(const fix *f) {
    int64_t pages = (f->sa >> 12) - (f->p >> 12);
    return fix_insn(f, (uint64_t)pages & 3, 2, 29) && fix_insn(f, (uint64_t)(pages >> 2), 19, 5);
}

/* The low 12 bits of an address, scaled by the size of the access. */
static bool fix_lo12(const fix *f, int scale) {
    uint64_t lo = (uint64_t)f->sa & 0xfff;
    return !(lo & ((UINT64_C(1) << scale) - 1)) && fix_insn(f, lo >> scale, 12, 10);
}

/* A branch: words in `bits` bits at position `pos`. */
static bool fix_branch(const fix *f, int bits, int pos) {
    int64_t d = f->sa - f->p, reach = INT64_C(1) << (bits + 1);
    return !(d & 3) && d >= -reach && d < reach && fix_insn(f, (uint64_t)(d >> 2), bits, pos);
}

static bool fix_aarch64(const fix *f, uint32_t type) {
    switch (type) {
    case R_AARCH64_NONE: return true;
    case R_AARCH64_PREL32: return fix_store(f, f->sa - f->p, 4);
    case R_AARCH64_PREL64: return fix_store(f, f->sa - f->p, 8);
    case R_AARCH64_ADR_PREL_PG_HI21: return fix_adrp(f);
    case R_AARCH64_ADD_ABS_LO12_NC:
    case R_AARCH64_LDST8_ABS_LO12_NC: return fix_lo12(f, 0);
    case R_AARCH64_LDST16_ABS_LO12_NC: return fix_lo12(f, 1);
    case R_AARCH64_LDST32_ABS_LO12_NC: return fix_lo12(f, 2);
    case R_AARCH64_LDST64_ABS_LO12_NC: return fix_lo12(f, 3);
    case R_AARCH64_LDST128_ABS_LO12_NC: return fix_lo12(f, 4);
    case R_AARCH64_CALL26:
    case R_AARCH64_JUMP26: return fix_branch(f, 26, 0);
    case R_AARCH64_CONDBR19: return fix_branch(f, 19, 5);
    case R_AARCH64_TSTBR14: return fix_branch(f, 14, 5);
    default: return false;
    }
}

/* Where a symbol is in the image; false: outside of it. */
static bool link_address(const link *l, const link_object *o, const Elf64_Sym *s, uint64_t *at_) {
    if (s->st_shndx == SHN_UNDEF) {
        const link_func *f = link_find(l, link_name(o, s));
        if (f) *at_ = f->object->place[f->section] + f->value;
        return f;
    }
    if (s->st_shndx >= o->nsec || o->place[s->st_shndx] == LINK_NOWHERE ||
        s->st_value > o->sec[s->st_shndx].sh_size)
        return false;
    *at_ = o->place[s->st_shndx] + s->st_value;
    return true;
}

/* Apply one relocation to section `to`. */
static ig_status link_fix(link *l, const link_object *o, uint32_t to, const Elf64_Rela *r) {
    const int64_t far = (int64_t)LINK_MAX_IMAGE;
    uint64_t symbol = ELF64_R_SYM(r->r_info), size = o->sec[to].sh_size, at;
    uint32_t type = (uint32_t)ELF64_R_TYPE(r->r_info);
    if (symbol >= o->nsym || r->r_offset >= size || r->r_addend > far || r->r_addend < -far)
        return LINK_FAIL(l, "a relocation lies outside the object");
    Elf64_Sym s = link_symbol(o, symbol);
    if (!link_address(l, o, &s, &at))
        return rt_fail(l->alloc, IG_UNSUPPORTED,
                       "compiled code refers to `%s`, which is outside it", link_name(o, &s));
    uint8_t *start = l->image + o->place[to];
    fix f = {.at = start + r->r_offset,
             .room = size - r->r_offset,
             .p = (int64_t)(o->place[to] + r->r_offset),
             .sa = (int64_t)at + r->r_addend};
    bool done = l->cpu->arch == RT_ARCH_AARCH64 ? fix_aarch64(&f, type) : fix_x86(&f, type, start);
    return done ? NULL
                : rt_fail(l->alloc, IG_UNSUPPORTED,
                          "relocation of type %u to `%s` cannot be settled before loading", type,
                          link_name(o, &s));
}

/* Apply the relocations of every placed section. */
static ig_status link_fix_all(link *l, const link_object *o) {
    for (uint32_t i = 0; i < o->nsec; i++) {
        const Elf64_Shdr *s = &o->sec[i];
        if ((s->sh_type != SHT_RELA && s->sh_type != SHT_REL) || s->sh_info >= o->nsec) continue;
        if (o->place[s->sh_info] == LINK_NOWHERE) continue;
        if (s->sh_type == SHT_REL) return LINK_FAIL(l, "relocations without addends");
        for (uint64_t k = 0; k < s->sh_size / sizeof(Elf64_Rela); k++) {
            Elf64_Rela r;
            memcpy(&r, o->elf + s->sh_offset + k * sizeof r, sizeof r);
            RT_TRY(link_fix(l, o, s->sh_info, &r));
        }
    }
    return NULL;
}

/* --- All of it --- */

static ig_status link_read(link *l, const cg_object *objects, uint32_t n) {
    l->object = rt_alloc_zero(l->alloc, n * sizeof *l->object);
    if (!l->object) return rt_fail_memory();
    l->nobject = n;
    for (uint32_t i = 0; i < n; i++) {
        l->object[i].elf = objects[i].data;
        l->object[i].n = objects[i].n;
        RT_TRY(link_read_sections(l, &l->object[i]));
        RT_TRY(link_read_symbols(l, &l->object[i]));
        RT_TRY(link_collect(l, &l->object[i]));
    }
    return link_resolve(l);
}

static ig_status link_run(link *l, const cg_object *objects, uint32_t n) {
    RT_TRY(link_read(l, objects, n));
    RT_TRY(link_layout(l));
    for (uint32_t i = 0; i < n; i++) link_copy(l, &l->object[i]);
    for (uint32_t i = 0; i < n; i++) RT_TRY(link_fix_all(l, &l->object[i]));
    link_write_symbols(l);
    rt_image_header *h = &l->head;
    memcpy(l->image, h, sizeof *h);
    h->hash = rt_image_hash(l->image, h->size);
    memcpy(l->image, h, sizeof *h);
    return NULL;
}

static void link_free(link *l) {
    for (uint32_t i = 0; i < l->nobject; i++) {
        rt_free(l->alloc, l->object[i].sec, l->object[i].nsec * sizeof *l->object[i].sec);
        rt_free(l->alloc, l->object[i].place, l->object[i].nsec * sizeof *l->object[i].place);
    }
    rt_free(l->alloc, l->object, l->nobject * sizeof *l->object);
    rt_vec_free(l->alloc, &l->funcs);
    rt_vec_free(l->alloc, &l->by_name);
    rt_str_free(&l->names);
}

ig_status cg_link(const ig_allocator *a, const cg_object *objects, uint32_t n, const cg_cpu *cpu,
                  cg_bytes *image_) {
    return cg_link_importing(a, objects, n, NULL, 0, cpu, image_);
}

ig_status cg_link_importing(const ig_allocator *a, const cg_object *objects, uint32_t n,
                            const cg_import *import, uint32_t nimport, const cg_cpu *cpu,
                            cg_bytes *image_) {
    *image_ = (cg_bytes){0};
    link l = {.alloc = a, .cpu = cpu, .import = import, .nimport = nimport};
    rt_str_init(&l.names, a);
    ig_status s = link_run(&l, objects, n);
    if (s)
        rt_free(a, l.image, l.head.size);
    else
        *image_ = (cg_bytes){.data = l.image, .n = l.head.size, .alloc = a};
    link_free(&l);
    return s;
}
