module gmpscope/layouts

go 1.25
