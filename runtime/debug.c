/* debug.c - generated code in gdb and perf, under the names of its kernels.
 *
 * gdb: the JIT interface of its manual ("JIT Compilation Interface").  gdb sets a breakpoint in
 * __jit_debug_register_code and reads the list behind __jit_debug_descriptor; both names are fixed
 * by it, so the descriptor is a global of the process, under a lock.  Each entry points to an ELF
 * file in memory.  Ours is made here: a symbol table over a .text without contents (SHT_NOBITS) at
 * the address of the code, and a copy of the call frame information that the image carries, from
 * which gdb unwinds.
 *
 * perf: one line a function in /tmp/perf-<pid>.map, the file that `perf report` reads, appended
 * when IG_PERF=1. */
#include "runtime/debug.h"
#include <elf.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- The interface, as gdb defines it --- */

enum { JIT_NOACTION, JIT_REGISTER, JIT_UNREGISTER };

struct jit_code_entry {
    struct jit_code_entry *next, *prev;
    const char *symfile;
    uint64_t symfile_size;
};

struct jit_descriptor {
    uint32_t version, action;
    struct jit_code_entry *relevant, *first;
};

/* Protected: gdb must find them in a stripped library, and no other JIT of the process may be
 * bound to them. */
#define DEBUG_EXPORT __attribute__((visibility("protected"), used))

DEBUG_EXPORT struct jit_descriptor __jit_debug_descriptor = {1, JIT_NOACTION, NULL, NULL};
DEBUG_EXPORT __attribute__((noinline)) void __jit_debug_register_code(void);
void __jit_debug_register_code(void) { __asm__ volatile("" ::: "memory"); }

static pthread_mutex_t debug_lock = PTHREAD_MUTEX_INITIALIZER;

/* --- The symbol file --- */

enum { SEC_NULL, SEC_TEXT, SEC_UNWIND, SEC_SYMTAB, SEC_STRTAB, SEC_SHSTRTAB, SEC_END };
static const char debug_section_names[] = "\0.text\0.eh_frame\0.symtab\0.strtab\0.shstrtab";
enum { NAME_TEXT = 1, NAME_UNWIND = 7, NAME_SYMTAB = 17, NAME_STRTAB = 25, NAME_SHSTRTAB = 33 };

struct rt_debug {
    struct jit_code_entry entry;
    size_t size; /* of this allocation: the symbol file follows */
};

#define DEBUG_NAME 255 /* bytes of a name that are kept: an image may repeat a long one */

static size_t debug_name_size(const rt_debug_info *info, uint32_t i) {
    return strnlen(info->str + info->sym[i].name, DEBUG_NAME) + 1;
}

/* Fill the section table: contents follow it in the order of the table. */
static uint64_t debug_fill_sections(Elf64_Shdr sh[SEC_END], const rt_debug_info *info) {
    uint64_t at = sizeof(Elf64_Ehdr) + SEC_END * sizeof(Elf64_Shdr), names = 1;
    for (uint32_t i = 0; i < info->nsym; i++) names += debug_name_size(info, i);
    sh[SEC_TEXT] = (Elf64_Shdr){.sh_name = NAME_TEXT,
                                .sh_type = SHT_NOBITS,
                                .sh_flags = SHF_ALLOC | SHF_EXECINSTR,
                                .sh_addr = (uint64_t)(uintptr_t)info->text,
                                .sh_size = info->text_size,
                                .sh_addralign = 16};
    sh[SEC_UNWIND] = (Elf64_Shdr){.sh_name = NAME_UNWIND,
                                  .sh_type = SHT_PROGBITS,
                                  .sh_flags = SHF_ALLOC,
                                  .sh_addr = (uint64_t)(uintptr_t)info->unwind,
                                  .sh_size = info->unwind_size,
                                  .sh_addralign = 8};
    sh[SEC_SYMTAB] = (Elf64_Shdr){.sh_name = NAME_SYMTAB,
                                  .sh_type = SHT_SYMTAB,
                                  .sh_size = ((uint64_t)info->nsym + 1) * sizeof(Elf64_Sym),
                                  .sh_link = SEC_STRTAB,
                                  .sh_info = 1, /* the first symbol that is not local */
                                  .sh_addralign = 8,
                                  .sh_entsize = sizeof(Elf64_Sym)};
    sh[SEC_STRTAB] = (Elf64_Shdr){
        .sh_name = NAME_STRTAB, .sh_type = SHT_STRTAB, .sh_size = names, .sh_addralign = 1};
    sh[SEC_SHSTRTAB] = (Elf64_Shdr){.sh_name = NAME_SHSTRTAB,
                                    .sh_type = SHT_STRTAB,
                                    .sh_size = sizeof debug_section_names,
                                    .sh_addralign = 1};
    for (int k = SEC_TEXT; k < SEC_END; k++) {
        at = (at + 7) & ~(uint64_t)7;
        sh[k].sh_offset = at;
        if (sh[k].sh_type != SHT_NOBITS) at += sh[k].sh_size;
    }
    return at;
}

/* Write the functions and their names. */
static void debug_fill_symbols(char *file, const Elf64_Shdr *sh, const rt_debug_info *info) {
    char *sym = file + sh[SEC_SYMTAB].sh_offset, *str = file + sh[SEC_STRTAB].sh_offset;
    uint64_t at = 1;
    for (uint32_t i = 0; i < info->nsym; i++) {
        Elf64_Sym one = {.st_name = (uint32_t)at,
                         .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC),
                         .st_shndx = SEC_TEXT,
                         .st_value = info->sym[i].off,
                         .st_size = info->sym[i].size};
        memcpy(sym + ((size_t)i + 1) * sizeof one, &one, sizeof one);
        size_t n = debug_name_size(info, i);
        memcpy(str + at, info->str + info->sym[i].name, n - 1);
        at += n;
    }
}

/* The allocation with entry and file, or NULL. */
static rt_debug *debug_make(const ig_allocator *a, const rt_debug_info *info) {
    Elf64_Shdr sh[SEC_END] = {{0}};
    uint64_t size = debug_fill_sections(sh, info);
    Elf64_Ehdr eh = {
        .e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
        .e_type = ET_REL,
        .e_machine = rt_cpu_arch() == RT_ARCH_AARCH64 ? EM_AARCH64 : EM_X86_64,
        .e_version = EV_CURRENT,
        .e_shoff = sizeof(Elf64_Ehdr),
        .e_ehsize = sizeof(Elf64_Ehdr),
        .e_shentsize = sizeof(Elf64_Shdr),
        .e_shnum = SEC_END,
        .e_shstrndx = SEC_SHSTRTAB,
    };
    rt_debug *d = rt_alloc_zero(a, sizeof *d + size);
    if (!d) return NULL;
    char *file = (char *)(d + 1);
    memcpy(file, &eh, sizeof eh);
    memcpy(file + sizeof eh, sh, sizeof sh);
    if (info->unwind_size) memcpy(file + sh[SEC_UNWIND].sh_offset, info->unwind, info->unwind_size);
    debug_fill_symbols(file, sh, info);
    memcpy(file + sh[SEC_SHSTRTAB].sh_offset, debug_section_names, sizeof debug_section_names);
    d->size = sizeof *d + size;
    d->entry.symfile = file;
    d->entry.symfile_size = size;
    return d;
}

/* Append the functions to perf's map of this process. */
static void debug_write_perf(const rt_debug_info *info) {
    const char *on = getenv("IG_PERF");
    char text[DEBUG_NAME + 64];
    if (!on || strcmp(on, "1")) return;
    snprintf(text, sizeof text, "/tmp/perf-%ld.map", (long)getpid());
    /* The name is public and the folder shared: never follow a link that somebody put there. */
    int fd = open(text, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) return;
    for (uint32_t i = 0; i < info->nsym; i++) {
        const rt_image_symbol *s = &info->sym[i];
        int n = snprintf(text, sizeof text, "%llx %llx %.*s\n",
                         (unsigned long long)((uintptr_t)info->text + s->off),
                         (unsigned long long)s->size, DEBUG_NAME, info->str + s->name);
        if (n < 0 || write(fd, text, (size_t)n) != n) break; /* a map is worth no error */
    }
    close(fd);
}

rt_debug *rt_debug_add(const ig_allocator *a, const rt_debug_info *info) {
    debug_write_perf(info);
    rt_debug *d = debug_make(a, info);
    if (!d) return NULL;
    pthread_mutex_lock(&debug_lock);
    d->entry.next = __jit_debug_descriptor.first;
    if (d->entry.next) d->entry.next->prev = &d->entry;
    __jit_debug_descriptor.first = __jit_debug_descriptor.relevant = &d->entry;
    __jit_debug_descriptor.action = JIT_REGISTER;
    __jit_debug_register_code();
    pthread_mutex_unlock(&debug_lock);
    return d;
}

void rt_debug_remove(const ig_allocator *a, rt_debug *d) {
    if (!d) return;
    pthread_mutex_lock(&debug_lock);
    if (d->entry.prev)
        d->entry.prev->next = d->entry.next;
    else
        __jit_debug_descriptor.first = d->entry.next;
    if (d->entry.next) d->entry.next->prev = d->entry.prev;
    __jit_debug_descriptor.relevant = &d->entry;
    __jit_debug_descriptor.action = JIT_UNREGISTER;
    __jit_debug_register_code();
    pthread_mutex_unlock(&debug_lock);
    rt_free(a, d, d->size);
}
