/* closure_programs.c - programs for the closure test, as text. */
#include "ingot/custom.h"
#include "tests/closure.h"

/* What generators do not make: relations of one, three and four operands, dims that are symbols,
 * values used many times, loops and branches. */
const closure_program closure_programs[] = {
#define PROGRAM(name, body) \
    { name, "module m {\n" body "\n}\n", false }
#define PRODUCT(name, body) \
    { name, "module m {\n" body "\n}\n", true }
    PROGRAM("three", "fn @f(%a: f64[2,3], %b: f64[3,2], %c: f64[2]) -> (f64[2]) {\n"
                     "%0 = ein %a, %b, %c rel=\"y[i] += a[i,j]*b[j,k]*c[k] over (k,j)\"\n"
                     "return %0\n}"),
    PROGRAM("four", "fn @f(%a: f64[2], %b: f64[3], %c: f64[2,3]) -> (f64[]) {\n"
                    "%0 = ein %a, %b, %c, %a rel=\"y[] += a[i]*b[j]*c[k,j]*d[k]\"\n"
                    "return %0\n}"),
    PRODUCT("product", "fn @f(%a: f64[2,3], %b: f64[3]) -> (f64[2], f64[3]) {\n"
                       "%0 = ein %a, %b rel=\"y[i] *= a[i,j]*b[j]\"\n"
                       "%1 = ein %a rel=\"y[j] *= a[i,j]\"\n"
                       "return %0, %1\n}"),
    PRODUCT("factors", "fn @f(%a: f64[3,2], %b: f64[]) -> (f64[2], f64[], f64[3,2], f64[3,2]) {\n"
                       "%0 = reduce %a op=prod axes=[0]\n"
                       "%1 = reduce %a op=prod axes=[0,1]\n"
                       "%2 = cumred %a op=prod axis=0\n"
                       "%3 = broadcast %b dims=[3,2] axes=[]\n"
                       "%4 = fma %a, %3, %a\n"
                       "%5 = mul %a, %4\n"
                       "return %0, %1, %2, %5\n}"),
    PRODUCT("updates", "dim N in 3..5\n"
                       "fn @f(%x: f64[3], %u: f64[N], %i: i64[N]) -> (f64[3]) {\n"
                       "%0 = scatter %x, %u, %i op=mul axes=[0] oob=clamp\n"
                       "return %0\n}"),
    PRODUCT("dropped", "fn @f(%x: f64[9,1], %u: f64[3,1], %i: i32[3]) -> (f64[9,1]) {\n"
                       "%0 = scatter %x, %u, %i op=mul axes=[0] oob=drop\n"
                       "return %0\n}"),
    PRODUCT("places", "fn @f(%x: f64[2,2,3,1], %u: f64[2,2,2,1], %i: i64[2,2,2], %j: i64[2,2,2])"
                      " -> (f64[2,2,3,1]) {\n"
                      "%0 = scatter %x, %u, %i, %j op=mul axes=[1,2] batch=1 oob=clamp\n"
                      "return %0\n}"),
    PROGRAM("largest", "fn @f(%a: f64[2,3]) -> (f64[3,2], f64[]) {\n"
                       "%0 = ein %a, %a, %a rel=\"y[j,i] max= a[i,j]*b[k,j]*c[i,l]\"\n"
                       "%1 = ein %a rel=\"y[] min= a[i,j] over (j,i)\"\n"
                       "return %0, %1\n}"),
    PROGRAM("convolve", "dim N in 2..6\n"
                        "fn @f(%x: f64[1,N,2], %w: f64[3,2,2]) -> (f64[1,floordiv(N+1,2),2]) {\n"
                        "%0 = ein %x, %w rel=\"y[n,i,o] += x[n,2*i+r-1,c]*w[r,c,o] over (r,c) "
                        "where i in 0..(N+1)/2\"\n"
                        "return %0\n}"),
    PROGRAM("pool", "dim N in 3..6\n"
                    "fn @f(%x: f64[N,2]) -> (f64[2,floordiv(N,2)], f64[floordiv(N,2)], f64[N]) {\n"
                    "%0 = ein %x rel=\"y[c,i] max= x[2*i+r-1,c] over (r) where r in 0..3, "
                    "i in 0..N/2\"\n"
                    "%1 = ein %0, %0 rel=\"y[j] += x[c,j]*z[c,i] over (c,i) where j <= i\"\n"
                    "%2 = ein %x rel=\"y[n] *= x[n,c] over (c) where 2*c < n\"\n"
                    "return %0, %1, %2\n}"),
    PROGRAM("lookup",
            "fn @f(%x: f64[3,2], %w: f64[5], %i: i64[5]) -> (f64[5,2], f64[3], f64[3,2]) "
            "{\n"
            "%0 = ein %x, %w, %i rel=\"y[n,d] += x[i[n],d]*w[n]\"\n"
            "%1 = ein %w, %i rel=\"y[v] += w[n] over (n) where v in 0..3, v = i[n]\"\n"
            "%2 = ein %x, %i rel=\"y[v,d] max= x[i[n],d] over (n) where v in 0..3, n >= v\"\n"
            "return %0, %1, %2\n}"),
    PROGRAM("symbols", "dim N in 2..6\ndim M in 1..5\n"
                       "fn @f(%x: f64[N,M], %s: f64[]) -> (f64[N], f64[N+1,2*M]) {\n"
                       "%0 = cumred %x op=prod axis=1 reverse=true\n"
                       "%1 = cumred %0 op=max axis=0 exclusive=false\n"
                       "%2 = slice %1 lo=[0,0] hi=[N,M] step=[2,1]\n"
                       "%3 = reduce %2 op=prod axes=[0,1]\n"
                       "%4 = broadcast %3 dims=[N] axes=[]\n"
                       "%5 = pad %0, %s lo=[1,M] hi=[0,0] interior=[0,0]\n"
                       "return %4, %5\n}"),
    PROGRAM("windows", "dim N in 2..6\n"
                       "fn @f(%x: f64[N], %u: f64[2], %i: i64[]) -> (f64[2], f64[N]) {\n"
                       "%0 = dslice %x, %i dims=[2]\n"
                       "%1 = mul %0, %u\n"
                       "%2 = dupdate %x, %1, %i op=add\n"
                       "%3 = dupdate %2, %u, %i op=set\n"
                       "%4 = mul %3, %2\n"
                       "return %0, %4\n}"),
    PROGRAM("softmax", "fn @f(%x: f64[2,3], %w: f64[3,3]) -> (f64[]) {\n"
                       "%0 = ein %x, %w rel=\"y[b,o] += x[b,i]*w[i,o]\"\n"
                       "%1 = reduce %0 op=max axes=[1]\n"
                       "%2 = broadcast %1 dims=[2,3] axes=[0]\n"
                       "%3 = sub %0, %2\n"
                       "%4 = exp %3\n"
                       "%5 = reduce %4 op=sum axes=[1]\n"
                       "%6 = log %5\n"
                       "%7 = mul %6, %6\n"
                       "%8 = reduce %7 op=sum axes=[0]\n"
                       "return %8\n}"),
    PROGRAM("scan", "dim N in 1..5\n"
                    "fn @f(%x: f64[N,2], %w: f64[2], %h: f64[2], %k: f64[]) -> (f64[2], f64[N,2], "
                    "f64[N], f64[2]) {\n"
                    "%1, %d, %2, %3 = scan %h, %h, %x n=N carries=2 reverse=false (%t: i64[], %c: "
                    "f64[2], %e: f64[2], %s: f64[2]) {\n"
                    "%4 = mul %c, %w\n%5 = add %4, %s\n%6 = sin %5\n%7 = mul %6, %s\n"
                    "%8 = reduce %7 op=sum axes=[0]\n%9 = mul %8, %k\n"
                    "%10 = convert %t dtype=f64\n%11 = broadcast %10 dims=[2] axes=[]\n"
                    "%12 = mul %6, %11\n%13 = add %e, %w\n"
                    "yield %12, %13, %6, %9\n}\n"
                    "return %1, %2, %3, %d\n}"),
    PROGRAM("swap", "fn @f(%a: f64[], %b: f64[], %c: f64[]) -> (f64[], f64[], f64[]) {\n"
                    "%1, %2, %3 = scan %a, %b, %c n=3 carries=3 reverse=true (%t: i64[], %x: "
                    "f64[], %y: f64[], %z: f64[]) {\n"
                    "%4 = mul %x, %c\nyield %y, %4, %b\n}\n"
                    "%5 = mul %1, %a\n"
                    "return %5, %2, %3\n}"),
    PROGRAM("while", "fn @f(%x: f64[], %w: f64[], %n: i64[]) -> (f64[], f64[], i64[]) {\n"
                     "%z = const type=i64[] data=[0]\n%one = const type=i64[] data=[1]\n"
                     "%three = const type=i64[] data=[3]\n"
                     "%m = bit %n, %three op=band\n"
                     "%i, %1, %2 = while %z, %x, %w cap=0 (%a: i64[], %b: f64[], %c: f64[]) {\n"
                     "%3 = cmp %a, %m op=lt\nyield %3\n} (%a: i64[], %b: f64[], %c: f64[]) {\n"
                     "%4 = add %a, %one\n%5 = sin %b\n%6 = mul %5, %w\n%7 = add %6, %x\n"
                     "%8 = mul %c, %b\nyield %4, %7, %8\n}\n"
                     "return %1, %2, %i\n}"),
    PROGRAM(
        "capped",
        "fn @f(%x: f64[2], %w: f64[], %n: i64[]) -> (f64[2], i64[]) {\n"
        "%z = const type=i64[] data=[0]\n%one = const type=i64[] data=[1]\n"
        "%three = const type=i64[] data=[3]\n"
        "%m = bit %n, %three op=band\n"
        "%i, %1 = while %z, %x cap=5 (%a: i64[], %b: f64[2]) {\n"
        "%3 = cmp %a, %m op=lt\nyield %3\n} (%a: i64[], %b: f64[2]) {\n"
        "%4 = add %a, %one\n%5 = sin %b\n%6 = broadcast %w dims=[2] axes=[]\n%7 = fma %5, %6, %x\n"
        "yield %4, %7\n}\n"
        "return %1, %i\n}"),
    PROGRAM("long", "fn @f(%x: f64[], %w: f64[], %n: i64[]) -> (f64[], i64[]) {\n"
                    "%z = const type=i64[] data=[0]\n%one = const type=i64[] data=[1]\n"
                    "%many = const type=i64[] data=[63]\n%least = const type=i64[] data=[60]\n"
                    "%b0 = bit %n, %many op=band\n%m = add %b0, %least\n"
                    "%i, %1 = while %z, %x cap=0 (%a: i64[], %b: f64[]) {\n"
                    "%3 = cmp %a, %m op=lt\nyield %3\n} (%a: i64[], %b: f64[]) {\n"
                    "%4 = add %a, %one\n%5 = mul %b, %w\n%6 = sin %5\n%7 = cos %6\n%8 = add %7, "
                    "%b\n%9 = sin %8\n"
                    "yield %4, %9\n}\n"
                    "return %1, %i\n}"),
    PROGRAM("if",
            "fn @f(%x: f64[2], %w: f64[], %n: i32[], %p: bool[]) -> (f64[2], f64[], f64[2]) {\n"
            "%1, %2 = if %n n=3 {\n%3 = sin %x\nyield %3, %w\n} {\n%4 = mul %x, %x\n"
            "%5 = reduce %4 op=sum axes=[0]\nyield %x, %5\n} {\n%6 = mul %w, %w\n"
            "%7 = const type=f64[2] data=[1.5,2.5]\nyield %7, %6\n}\n"
            "%8 = if %p n=2 {\n%9 = mul %1, %x\n%10 = log %9\nyield %9\n} {\nyield %1\n}\n"
            "return %1, %2, %8\n}"),
    PROGRAM("nested",
            "fn @f(%x: f64[3,2], %w: f64[2], %p: bool[3], %n: i64[]) -> (f64[2], f64[3]) {\n"
            "%two = const type=i64[] data=[2]\n%zero = const type=i64[] data=[0]\n%one = const "
            "type=i64[] data=[1]\n"
            "%1, %2 = scan %w, %x, %p n=3 carries=1 reverse=false (%t: i64[], %c: f64[2], %s: "
            "f64[2], %q: bool[]) {\n"
            "%3 = if %q n=2 {\n"
            "%4, %i = while %c, %zero cap=9 (%a: f64[2], %k: i64[]) {\n"
            "%5 = cmp %k, %two op=lt\nyield %5\n} (%a: f64[2], %k: i64[]) {\n"
            "%6 = mul %a, %s\n%7 = sin %6\n%8 = add %k, %one\nyield %7, %8\n}\n"
            "yield %4\n} {\n"
            "%9 = scan %c n=2 carries=1 reverse=true (%u: i64[], %a: f64[2]) {\n"
            "%10 = mul %a, %w\n%11 = cos %10\n%12 = add %11, %s\nyield %12\n}\n"
            "yield %9\n}\n"
            "%13 = mul %3, %s\n%14 = reduce %13 op=sum axes=[0]\n"
            "yield %3, %14\n}\n"
            "return %1, %2\n}"),
    PROGRAM("segments",
            "fn @f(%x: f64[7,2], %w: f64[2,2], %h: f64[2], %p: bool[7]) -> (f64[2], f64[7,2], "
            "bool[7]) {\n"
            "%1, %2, %q = scan %h, %x, %p n=7 carries=1 reverse=true ckpt=k(3) (%t: i64[], %c: "
            "f64[2], %s: f64[2], %b: bool[]) {\n"
            "%3 = ein %c, %w rel=\"y[i] += a[j]*b[j,i]\"\n%4 = add %3, %s\n%5 = sin %4\n"
            "%6 = convert %t dtype=f64\n%7 = broadcast %6 dims=[2] axes=[]\n"
            "%8 = mul %5, %7\n%9 = mul %s, %c\n"
            "%10 = if %b n=2 {\nyield %9\n} {\nyield %8\n}\n%11 = lnot %b\n"
            "yield %5, %10, %11\n}\n"
            "return %1, %2, %q\n}"),
    PROGRAM("remat",
            "dim N in 1..5\n"
            "fn @f(%x: f64[N,2], %w: f64[2,2], %h: f64[2]) -> (f64[2], f64[]) {\n"
            "%i = const type=i32[] data=[0]\n"
            "%1 = scan %h, %x n=N carries=1 reverse=false (%t: i64[], %c: f64[2], %s: f64[2]) {\n"
            "%2, %3 = if %i n=1 {\n"
            "%4 = ein %c, %w rel=\"y[i] += a[j]*b[j,i]\"\n%5 = tanh %4\n%6 = mul %5, %s\n"
            "yield %6, %c\n}\n"
            "%7 = add %2, %3\nyield %7\n}\n"
            "%8 = if %i n=1 {\n%9 = ein %1, %1, %w rel=\"y[] += a[i]*b[j]*c[i,j]\"\n"
            "%10 = sin %9\n%11 = mul %10, %9\nyield %11\n}\n"
            "return %1, %8\n}"),
    PROGRAM("powers", "fn @f(%x: f64[3], %y: f64[3]) -> (f64[3], f64[3]) {\n"
                      "%0 = abs %x\n%1 = pow %0, %y\n%2 = pow %1, %y\n%3 = atan2 %2, %x\n"
                      "%4 = rem %3, %y\n%5 = fma %1, %3, %4\nreturn %5, %2\n}"),
    PROGRAM("rule",
            "fn @f(%x: f64[3], %w: f64[3]) -> (f64[3], f64[3]) {\n"
            "%1 = composite %x, %w name=@product rule=lin (%a: f64[3], %b: f64[3]) {\n"
            "%2 = mul %a, %b\n%3 = sin %2\nyield %3\n"
            "} (%a: f64[3], %b: f64[3], %y: f64[3], %c: f64[3], %d: f64[3]) {\n"
            "%2 = mul %a, %b\n%3 = cos %2\n%4 = mul %c, %b\n%5 = mul %d, %a\n"
            "%6 = add %4, %5\n%7 = mul %6, %3\nyield %7\n}\n"
            "%8 = scan %1 n=3 carries=1 reverse=false (%t: i64[], %h: f64[3]) {\n"
            "%9 = mul %h, %w\n"
            "%10 = composite %9 name=@bell rule=lin (%a: f64[3]) {\n"
            "%11 = mul %a, %a\n%12 = neg %11\n%13 = exp %12\nyield %13\n"
            "} (%a: f64[3], %y: f64[3], %c: f64[3]) {\n"
            "%14 = add %a, %a\n%15 = mul %14, %y\n%16 = neg %15\n%17 = mul %c, %16\n"
            "yield %17\n}\n"
            "%18 = add %10, %x\nyield %18\n}\n"
            "return %1, %8\n}"),
    PROGRAM("refs",
            "fn @f(%x: f64[3], %w: f64[], %p: bool[], %n: i64[]) -> (f64[3], f64[3], f64[]) {\n"
            "%r = ref %x\n%s = ref %w\n"
            "%two = const type=i64[] data=[2]\n%zero = const type=i64[] data=[0]\n"
            "%one = const type=i64[] data=[1]\n"
            "%k = scan %w n=3 carries=1 reverse=false (%t: i64[], %c: f64[]) {\n"
            "%1 = read %r, %t dims=[1]\n%2 = sin %1\nwrite %r, %2, %t op=add\n"
            "%3 = if %p n=2 {\n%4 = read %s\n%5 = mul %4, %c\nwrite %s, %5 op=set\nyield %4\n"
            "} {\n%q = ref %c\n%6 = sin %c\nwrite %q, %6 op=add\n%7 = read %q\nyield %7\n}\n"
            "yield %3\n}\n"
            "%i = while %zero cap=5 (%a: i64[]) {\n%8 = cmp %a, %two op=lt\nyield %8\n"
            "} (%a: i64[]) {\n%9 = read %r\n%10 = cos %9\n%11 = mul %10, %x\n"
            "write %r, %11 op=set\n%12 = read %s\nwrite %s, %12 op=add\n%13 = add %a, %one\n"
            "yield %13\n}\n"
            "%14 = read %r\n%15 = mul %14, %14\nwrite %r, %x op=add\n%16 = read %r\n"
            "%17 = read %s\n%18 = mul %17, %k\n"
            "return %15, %16, %18\n}"),
    PROGRAM("custom",
            "fn @f(%x: f64[3]) -> (f64[3], f64[3]) {\n"
            "%1 = composite %x name=@all rule=lin (%a: f64[3]) {\n"
            "%2 = custom %a name=@closure_cube version=1 type=@\"f64[...] -> f64[...]\" "
            "lanes=true\nyield %2\n"
            "} (%a: f64[3], %y: f64[3], %c: f64[3]) {\n"
            "%3 = mul %a, %a\n%4 = const type=f64[3] data=splat 3.0\n%5 = mul %3, %4\n"
            "%6 = mul %c, %5\nyield %6\n}\n"
            "%7 = composite %x name=@each rule=lin (%a: f64[3]) {\n"
            "%8 = custom %a name=@closure_cube version=1 type=@\"f64[n] -> f64[n]\" "
            "lanes=false\nyield %8\n"
            "} (%a: f64[3], %y: f64[3], %c: f64[3]) {\n"
            "%9 = mul %a, %a\n%10 = const type=f64[3] data=splat 3.0\n%11 = mul %9, %10\n"
            "%12 = mul %c, %11\nyield %12\n}\n"
            "%13 = mul %1, %7\nreturn %13, %7\n}"),
    PROGRAM("idle", "fn @f(%x: f64[2]) -> (f64[2]) {\n"
                    "%1 = scan %x n=2 carries=1 reverse=false (%t: i64[], %c: f64[2]) {\n"
                    "%2 = scan %c n=2 carries=1 reverse=false (%u: i64[], %d: f64[2]) {\n"
                    "%3 = sin %d\nyield %3\n}\n"
                    "%4 = cmp %2, %2 op=eq\n%5 = select %4, %c, %x\nyield %5\n}\n"
                    "return %1\n}"),
    {NULL, NULL, false},
};

/* The C function of the program `custom`. */
static int32_t closure_cube(const ig_custom_args *args) {
    const double *x = args->in[0].data;
    double *y = args->out[0].data;
    int64_t n = 1;
    for (int k = 0; k < args->in[0].rank; k++) n *= args->in[0].dim[k];
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * x[i] * x[i];
    return 0;
}

ig_status closure_register(void) {
    static ig_custom cube = {.fn = closure_cube,
                             .name = "closure_cube",
                             .version = 1,
                             .type = "f64[...] -> f64[...]",
                             .flags = IG_CUSTOM_LANES};
    return ig_custom_register(&cube);
}
