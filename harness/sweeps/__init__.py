"""Many runs: plans of jobs and the engines that do them."""
