#include "textflag.h"

// func lost(): calls parks with a frame pointer that leads nowhere.
TEXT ·lost(SB), 0, $16-0
	MOVD $0x1238, R29
	CALL ·parks(SB)
	RET
