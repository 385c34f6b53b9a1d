module gmpscope.test/workloads

go 1.19
