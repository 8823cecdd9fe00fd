/* link.c - a relocatable ELF64 object becomes an image.
 *
 * The object comes from LLVM, and is still read as if it came from a stranger: every offset, index
 * and count is checked before use.  Allocated sections without contents to write are laid out as
 * read-only data, then text; relocations between them are applied for good, since the distance of
 * data and text never changes.  What cannot be settled now is refused by name: undefined symbols,
 * writable data, absolute addresses (they would need a relocation at load time).
 *
 * The image is one block: header, symbols (functions only), names, data at a page, text at a
 * page. */
#include "codegen/target.h"
#include "runtime/base/str.h"
#include "runtime/base/vec.h"
#include <elf.h>
#include <string.h>

#define LINK_MAX_IMAGE (UINT64_C(1) << 31) /* the reach of a 32-bit displacement */
#define LINK_NOWHERE   UINT64_MAX

typedef struct link {
    const ig_allocator *alloc;
    const cg_cpu *cpu;
    const uint8_t *elf;
    size_t n;
    uint32_t nsec;
    Elf64_Shdr *sec; /* owned copy: the object may be unaligned */
    uint64_t *place; /* owned: offset of each section in the image, or LINK_NOWHERE */
    const uint8_t *sym;
    uint64_t nsym;
    const char *str;
    uint64_t str_size;
    uint32_t unwind;             /* the section of call frames, or 0 */
    RT_VEC(rt_image_symbol) out; /* functions */
    rt_str names;
    rt_image_header head;
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
static Elf64_Sym link_symbol(const link *l, uint64_t i) {
    Elf64_Sym s;
    memcpy(&s, l->sym + i * sizeof s, sizeof s);
    return s;
}

/* A symbol's name; for a section symbol, "a section". */
static const char *link_name(const link *l, const Elf64_Sym *s) {
    if (!s->st_name) return "a section";
    return s->st_name < l->str_size ? l->str + s->st_name : "?";
}

/* Find the call frames, which come first in the data so that the loader knows where they are. */
static void link_find_unwind(link *l, uint32_t shstrndx) {
    static const char name[] = ".eh_frame";
    if (shstrndx >= l->nsec || l->sec[shstrndx].sh_type != SHT_STRTAB) return;
    const Elf64_Shdr *names = &l->sec[shstrndx];
    for (uint32_t i = 1; i < l->nsec && !l->unwind; i++)
        if (link_is_alloc(&l->sec[i]) && !link_is_text(&l->sec[i]) &&
            link_is_range(l->sec[i].sh_name, sizeof name, names->sh_size) &&
            !memcmp(l->elf + names->sh_offset + l->sec[i].sh_name, name, sizeof name))
            l->unwind = i;
}

/* Copy the section table. */
static ig_status link_read_sections(link *l) {
    Elf64_Ehdr eh;
    if (!l->elf || l->n < sizeof eh) return LINK_FAIL(l, "object file too short");
    memcpy(&eh, l->elf, sizeof eh);
    if (memcmp(eh.e_ident, ELFMAG, SELFMAG) || eh.e_ident[EI_CLASS] != ELFCLASS64 ||
        eh.e_ident[EI_DATA] != ELFDATA2LSB || eh.e_type != ET_REL)
        return LINK_FAIL(l, "not a relocatable ELF64 object");
    if (eh.e_machine != link_machine(l->cpu))
        return LINK_FAIL(l, "object file for another machine than %s", l->cpu->name);
    if (!eh.e_shnum || eh.e_shentsize != sizeof(Elf64_Shdr) ||
        !link_is_range(eh.e_shoff, (uint64_t)eh.e_shnum * sizeof(Elf64_Shdr), l->n))
        return LINK_FAIL(l, "malformed section table");
    l->nsec = eh.e_shnum;
    l->sec = rt_alloc(l->alloc, l->nsec * sizeof *l->sec);
    l->place = rt_alloc(l->alloc, l->nsec * sizeof *l->place);
    if (!l->sec || !l->place) return rt_fail_memory();
    memcpy(l->sec, l->elf + eh.e_shoff, l->nsec * sizeof *l->sec);
    for (uint32_t i = 0; i < l->nsec; i++) {
        l->place[i] = LINK_NOWHERE;
        if (l->sec[i].sh_type != SHT_NOBITS &&
            !link_is_range(l->sec[i].sh_offset, l->sec[i].sh_size, l->n))
            return LINK_FAIL(l, "section %u lies outside the object", i);
    }
    link_find_unwind(l, eh.e_shstrndx);
    return NULL;
}

/* Find the symbol table; refuse undefined symbols. */
static ig_status link_read_symbols(link *l) {
    for (uint32_t i = 0; i < l->nsec; i++) {
        const Elf64_Shdr *s = &l->sec[i];
        if (s->sh_type != SHT_SYMTAB) continue;
        if (l->sym) return LINK_FAIL(l, "two symbol tables");
        if (s->sh_link >= l->nsec || l->sec[s->sh_link].sh_type != SHT_STRTAB ||
            !l->sec[s->sh_link].sh_size)
            return LINK_FAIL(l, "the symbol table has no names");
        l->sym = l->elf + s->sh_offset;
        l->nsym = s->sh_size / sizeof(Elf64_Sym);
        l->str = (const char *)l->elf + l->sec[s->sh_link].sh_offset;
        l->str_size = l->sec[s->sh_link].sh_size;
        if (l->str[l->str_size - 1]) return LINK_FAIL(l, "symbol names do not end");
    }
    if (!l->sym) return LINK_FAIL(l, "no symbol table");
    for (uint64_t i = 1; i < l->nsym; i++) {
        Elf64_Sym s = link_symbol(l, i);
        if (s.st_name >= l->str_size) return LINK_FAIL(l, "a symbol's name lies outside the names");
        if (s.st_shndx == SHN_UNDEF)
            return rt_fail(l->alloc, IG_UNSUPPORTED,
                           "compiled code must stand alone, but `%s` is undefined",
                           link_name(l, &s));
    }
    return NULL;
}

/* --- Layout --- */

static uint64_t link_round(uint64_t x, uint64_t to) { return (x + to - 1) & ~(to - 1); }

/* Place one section at or after offset `at`. */
static ig_status link_place(link *l, uint32_t i, uint64_t *at) {
    const Elf64_Shdr *s = &l->sec[i];
    uint64_t align = s->sh_addralign ? s->sh_addralign : 1;
    if (s->sh_flags & SHF_WRITE)
        return rt_fail(l->alloc, IG_UNSUPPORTED, "compiled code has writable data");
    if (s->sh_flags & SHF_TLS)
        return rt_fail(l->alloc, IG_UNSUPPORTED, "compiled code has thread-local data");
    if (align & (align - 1) || align > RT_IMAGE_PAGE)
        return LINK_FAIL(l, "alignment of section %u", i);
    if (s->sh_size > LINK_MAX_IMAGE || link_round(*at, align) > LINK_MAX_IMAGE - s->sh_size)
        return rt_fail(l->alloc, IG_UNSUPPORTED, "compiled code is larger than 2 GiB");
    l->place[i] = link_round(*at, align);
    *at = l->place[i] + s->sh_size;
    return NULL;
}

/* Place the data sections (text = false) or the text sections, the call frames first. */
static ig_status link_place_all(link *l, bool text, uint64_t *at) {
    if (!text && l->unwind) RT_TRY(link_place(l, l->unwind, at));
    for (uint32_t i = 0; i < l->nsec; i++)
        if (link_is_alloc(&l->sec[i]) && link_is_text(&l->sec[i]) == text && i != l->unwind)
            RT_TRY(link_place(l, i, at));
    return NULL;
}

/* Collect the functions; until link_layout `off` counts from the section whose number is in
 * `reserved`. */
static ig_status link_collect(link *l) {
    for (uint64_t i = 1; i < l->nsym; i++) {
        Elf64_Sym s = link_symbol(l, i);
        if (ELF64_ST_TYPE(s.st_info) != STT_FUNC || s.st_shndx >= l->nsec) continue;
        const Elf64_Shdr *sec = &l->sec[s.st_shndx];
        if (!link_is_alloc(sec) || !link_is_text(sec)) continue;
        if (!link_is_range(s.st_value, s.st_size, sec->sh_size) || s.st_value >= sec->sh_size)
            return LINK_FAIL(l, "function `%s` lies outside its section", link_name(l, &s));
        if (l->names.n > UINT32_MAX / 2) return LINK_FAIL(l, "too many names");
        rt_image_symbol out = {.off = s.st_value,
                               .size = s.st_size,
                               .name = (uint32_t)l->names.n,
                               .reserved = s.st_shndx};
        const char *name = link_name(l, &s);
        rt_str_add(&l->names, name, strlen(name) + 1);
        if (l->names.failed || !rt_vec_push(l->alloc, &l->out, out)) return rt_fail_memory();
    }
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
    RT_TRY(link_collect(l));
    h->nsym = l->out.n;
    h->sym_off = sizeof *h;
    h->str_off = h->sym_off + (uint64_t)h->nsym * sizeof(rt_image_symbol);
    h->str_size = l->names.n;
    uint64_t at = h->data_off = link_round(h->str_off + h->str_size, RT_IMAGE_PAGE);
    RT_TRY(link_place_all(l, false, &at));
    h->data_size = at - h->data_off;
    if (l->unwind) h->unwind_size = (uint32_t)l->sec[l->unwind].sh_size;
    at = h->text_off = link_round(at, RT_IMAGE_PAGE);
    RT_TRY(link_place_all(l, true, &at));
    h->text_size = at - h->text_off;
    h->size = at;
    for (uint32_t i = 0; i < l->out.n; i++) {
        rt_image_symbol *s = &l->out.data[i];
        s->off += l->place[s->reserved] - h->text_off;
        s->reserved = 0;
    }
    l->image = rt_alloc_zero(l->alloc, h->size);
    return l->image ? NULL : rt_fail_memory();
}

/* Copy the contents of the sections. */
static void link_copy(link *l) {
    for (uint32_t i = 0; i < l->nsec; i++)
        if (l->place[i] != LINK_NOWHERE && l->sec[i].sh_type != SHT_NOBITS)
            memcpy(l->image + l->place[i], l->elf + l->sec[i].sh_offset, l->sec[i].sh_size);
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

/* Apply one relocation to section `to`. */
static ig_status link_fix(link *l, uint32_t to, const Elf64_Rela *r) {
    uint64_t symbol = ELF64_R_SYM(r->r_info), size = l->sec[to].sh_size;
    uint32_t type = (uint32_t)ELF64_R_TYPE(r->r_info);
    if (symbol >= l->nsym || r->r_offset >= size)
        return LINK_FAIL(l, "a relocation lies outside the object");
    Elf64_Sym s = link_symbol(l, symbol);
    if (s.st_shndx >= l->nsec || l->place[s.st_shndx] == LINK_NOWHERE)
        return rt_fail(l->alloc, IG_UNSUPPORTED,
                       "compiled code refers to `%s`, which is outside it", link_name(l, &s));
    const uint64_t far = LINK_MAX_IMAGE;
    if (s.st_value > l->sec[s.st_shndx].sh_size || r->r_addend > (int64_t)far ||
        r->r_addend < -(int64_t)far)
        return LINK_FAIL(l, "a relocation lies outside the object");
    uint8_t *start = l->image + l->place[to];
    fix f = {.at = start + r->r_offset,
             .room = size - r->r_offset,
             .p = (int64_t)(l->place[to] + r->r_offset),
             .sa = (int64_t)(l->place[s.st_shndx] + s.st_value) + r->r_addend};
    bool done = l->cpu->arch == RT_ARCH_AARCH64 ? fix_aarch64(&f, type) : fix_x86(&f, type, start);
    return done ? NULL
                : rt_fail(l->alloc, IG_UNSUPPORTED,
                          "relocation of type %u to `%s` cannot be settled before loading", type,
                          link_name(l, &s));
}

/* Apply the relocations of every placed section. */
static ig_status link_fix_all(link *l) {
    for (uint32_t i = 0; i < l->nsec; i++) {
        const Elf64_Shdr *s = &l->sec[i];
        if ((s->sh_type != SHT_RELA && s->sh_type != SHT_REL) || s->sh_info >= l->nsec) continue;
        if (l->place[s->sh_info] == LINK_NOWHERE) continue;
        if (s->sh_type == SHT_REL) return LINK_FAIL(l, "relocations without addends");
        for (uint64_t k = 0; k < s->sh_size / sizeof(Elf64_Rela); k++) {
            Elf64_Rela r;
            memcpy(&r, l->elf + s->sh_offset + k * sizeof r, sizeof r);
            RT_TRY(link_fix(l, s->sh_info, &r));
        }
    }
    return NULL;
}

/* --- All of it --- */

static ig_status link_run(link *l) {
    RT_TRY(link_read_sections(l));
    RT_TRY(link_read_symbols(l));
    RT_TRY(link_layout(l));
    link_copy(l);
    RT_TRY(link_fix_all(l));
    rt_image_header *h = &l->head;
    if (h->nsym) memcpy(l->image + h->sym_off, l->out.data, (size_t)h->nsym * sizeof *l->out.data);
    if (h->str_size) memcpy(l->image + h->str_off, l->names.data, h->str_size);
    memcpy(l->image, h, sizeof *h);
    h->hash = rt_image_hash(l->image, h->size);
    memcpy(l->image, h, sizeof *h);
    return NULL;
}

ig_status cg_link(const ig_allocator *a, const void *elf, size_t n, const cg_cpu *cpu,
                  cg_bytes *image_) {
    *image_ = (cg_bytes){0};
    link l = {.alloc = a, .cpu = cpu, .elf = elf, .n = n};
    rt_str_init(&l.names, a);
    ig_status s = link_run(&l);
    if (s)
        rt_free(a, l.image, l.head.size);
    else
        *image_ = (cg_bytes){.data = l.image, .n = l.head.size, .alloc = a};
    rt_free(a, l.sec, l.nsec * sizeof *l.sec);
    rt_free(a, l.place, l.nsec * sizeof *l.place);
    rt_vec_free(a, &l.out);
    rt_str_free(&l.names);
    return s;
}
