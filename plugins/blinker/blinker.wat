;; blinker: switches the point `lamp` on or off every 500 ms.
;;
;; The only stored state is the id of the point. The clock alone decides whether the lamp is on: a
;; swap or a restart does not disturb the rhythm. If the point is missing, the program logs this
;; once and searches the point again in every poll.
(module $blinker
  (import "env" "wasm_log"
    (func $wasm_log (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "wasm_current_time"
    (func $wasm_current_time (param i32 i32) (result i32)))
  (import "env" "wasm_point_find"
    (func $wasm_point_find (param i32 i32 i32) (result i32)))
  (import "env" "wasm_point_write_boolean"
    (func $wasm_point_write_boolean (param i32 i32) (result i32)))

  (memory (export "memory") 1)
  ;; 0: seconds, u64.   8: nanoseconds, u32.   12: id of the point, u32.
  (data (i32.const 16) "lamp")
  (data (i32.const 32) "blinker/blinker.wat")
  (data (i32.const 64) "no point lamp: not configured, or not granted")
  (data (i32.const 128) "lamp is not ours to write")

  (global $found (mut i32) (i32.const 0))
  ;; The code of the last failed call that was logged; 0 while calls succeed.
  (global $complaint (mut i32) (i32.const 0))

  ;; Logs a text, except if the last logged failure had the same `code`.
  (func $complain (param $code i32) (param $text i32) (param $len i32)
    (if (i32.ne (local.get $code) (global.get $complaint))
      (then
        (global.set $complaint (local.get $code))
        (drop (call $wasm_log
          (i32.const 0) (i32.const 32) (i32.const 19) (i32.const 0) ;; WAT has no line numbers
          (local.get $text) (local.get $len))))))

  ;; Searches the point until it is found.
  (func $find (local $code i32)
    (if (i32.eqz (global.get $found))
      (then
        (local.set $code (call $wasm_point_find (i32.const 16) (i32.const 4) (i32.const 12)))
        (if (local.get $code)
          (then (call $complain (local.get $code) (i32.const 64) (i32.const 45)))
          (else (global.set $found (i32.const 1)))))))

  ;; Returns 1 in the second half of every second of the clock, otherwise 0.
  (func $is_lit (result i32)
    (drop (call $wasm_current_time (i32.const 0) (i32.const 8)))
    (i32.ge_u (i32.load (i32.const 8)) (i32.const 500000000)))

  (func $init (export "init")
    (call $find))

  (func $poll (export "poll") (local $code i32)
    (call $find)
    (if (global.get $found)
      (then
        (local.set $code
          (call $wasm_point_write_boolean (i32.load (i32.const 12)) (call $is_lit)))
        (if (local.get $code)
          (then (call $complain (local.get $code) (i32.const 128) (i32.const 25)))
          (else (global.set $complaint (i32.const 0))))))))
