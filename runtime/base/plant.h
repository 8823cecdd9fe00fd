/* plant.h - planted miscompiles, to prove that the fuzzer finds what it should.  Only the test
 * build that defines IG_PLANT has them; elsewhere the condition is a constant 0. */
#ifndef RT_PLANT_H
#define RT_PLANT_H

#define RT_PLANTS(X)                                                                  \
    X(swapped_operands, "sub and div take their operands in the wrong order")         \
    X(fused_multiply_add, "mul then add becomes fma")                                 \
    X(reordered_lanes, "a reduction adds its lanes from left to right")               \
    X(skipped_tail, "the scalar tail of an elementwise loop misses its last element") \
    X(wrong_k_cut, "a contraction cuts K at 256")                                     \
    X(dropped_nan_fix, "max and min ignore NaN")                                      \
    X(negated_by_sub, "neg becomes 0 - x")                                            \
    X(wrong_division_by_zero, "integer division by zero is not guarded")              \
    X(reused_live_slot, "the memory plan frees a slot one call too early")            \
    X(bf16_truncates, "f32 to bf16 truncates instead of rounding")                    \
    X(carried_in_place, "a loop writes what it carries where it is still read")       \
    X(reverse_step_late, "a reverse scan counts its steps from n instead of n - 1")

enum rt_plant_id {
    RT_PLANT_NONE,
#define X(name, what) RT_PLANT_##name,
    RT_PLANTS(X)
#undef X
        RT_PLANT_END
};

#ifdef IG_PLANT
extern int rt_planted; /* defined by the test program */
#define RT_PLANTED(name) (rt_planted == RT_PLANT_##name)
#else
#define RT_PLANTED(name) 0
#endif
#endif
