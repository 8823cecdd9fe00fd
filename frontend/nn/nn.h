/* nn.h - what the files of layers share: ops under the site of the composite, whose call is c. */
#ifndef FE_NN_NN_H
#define FE_NN_NN_H

#include "frontend/fe.h"
#include "ingot/nn.h"

#define NN_OP1(name, x)    ig_##name##_at(c->site, ig_arg_t(x))
#define NN_OP2(name, x, y) ig_##name##_at(c->site, ig_arg_t(x), ig_arg_t(y))
#define NN_NUM(name, x, n) ig_##name##_at(c->site, ig_arg_t(x), ig_arg_f(n))

#endif
