// cpp_headers.cc - the public headers as C++: the macros, the overloads behind them, and linkage.
#include "ingot/ingot.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>

#define WANT(cond)                                                                                \
    do {                                                                                          \
        if (!(cond)) {                                                                            \
            std::fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #cond, ig_error_text()); \
            std::exit(1);                                                                         \
        }                                                                                         \
    } while (0)

static void twice(void *, ig_tensor *const *in, ig_tensor **out) { out[0] = ig_mul(in[0], 2); }

static ig_tensor *kept_sum(const ig_tensor *x) {
    IG_SCOPE { return ig_keep(ig_sum(ig_add(x, 1), IG_ALL_AXES)); }
    return nullptr;
}

int main() {
    const float data[] = {1, 2, 3, 4, 5, 6};
    ig_tensor *x = ig_tensor_from(IG_f32, IG_DIMS(2, 3), data);
    const ig_tensor *y = ig_add(x, 1.5);
    WANT(ig_item_f32(ig_sum(y, IG_ALL_AXES)) == 30.0f);
    WANT(ig_item_f64(ig_max(ig_mul(y, 2u), IG_AXES(0, 1))) == 15);
    WANT(ig_item_f64(ig_slice(ig_sub(10L, x), IG_AT(1), IG_AT(-1))) == 4);
    WANT(ig_dim(ig_sum(y, 1), 0) == 2 && ig_rank(ig_sum(y, IG_KEEP(0))) == 2);
    WANT(ig_dim(ig_concat(IG_LIST(x, x, x), 0), 0) == 6);
    WANT(ig_item_bool(
        ig_all(ig_eq(ig_where(ig_gt(x, 3), x, 0LL), ig_mul(x, ig_cast(ig_gt(x, 3), IG_f32))),
               IG_ALL_AXES)));
    WANT(ig_item_f64(ig_dot(ig_flatten(x), ig_flatten(x))) == 91);
    WANT(ig_item_f64(ig_ein("y += a[i]*b[i]", ig_flatten(x), ig_flatten(x))) == 91);
    WANT(ig_dtype_of(ig_and(ig_full(IG_bool, IG_SCALAR, true), false)) == IG_bool);
    ig_tensor *s = kept_sum(x);
    WANT(ig_item_f64(s) == 27);
    ig_free(s);
    ig_assign_slice(x, 0, IG_FULL, IG_RANGE(1, IG_OPEN));
    WANT(ig_item_f64(ig_sum(x, IG_ALL_AXES)) == 5);

    ig_module *m;
    ig_tensor *out;
    WANT(ig_trace(twice, nullptr, 1, &x, 1, nullptr, &m) == nullptr);
    WANT(ig_module_run(m, 1, &x, 1, &out) == nullptr);
    WANT(ig_equal(out, ig_add(x, x)));
    ig_module *d;
    ig_tensor *in[] = {x, ig_ones(IG_f32, IG_DIMS(2, 3))}, *tangent[2];
    WANT(ig_jvp(m, "0", &d) == nullptr && ig_module_run(d, 2, in, 2, tangent) == nullptr);
    WANT(ig_equal(tangent[1], ig_mul(ig_stop_gradient(in[1]), 2)));
    ig_module_free(d);
    ig_module_free(m);

    const int line = __LINE__ + 1;
    WANT(ig_is_poison(ig_add(x, ig_zeros(IG_f32, IG_DIMS(5)))));
    WANT(ig_status_line(ig_error()) == line && std::strstr(ig_error_text(), "f32[2,3] vs f32[5]"));
    ig_error_clear();
    WANT(ig_session_free(nullptr) == 0);
    std::puts("c++ headers: ok");
    return 0;
}
