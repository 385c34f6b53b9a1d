//! The help of `daemon` and `config`. At most 80 columns.

/// `gmpscope daemon --help`, first words.
pub const DAEMON_ABOUT: &str = "\
Watch every Go process of this host, and serve metrics.

Every process is `passive` at first: its memory is read, and no probe is attached
to it. `tier.highest` or a rule of the configuration allows more, which is given
where it fits the budget.";

/// `gmpscope daemon -h`.
pub const DAEMON_EXAMPLES: &str = "\
EXAMPLES
  gmpscope daemon
      Watch with the settings of /etc/gmpscope; metrics at 127.0.0.1:9435.
  gmpscope daemon --tier-highest sampled --budget-target 0.2%
      Also sample, where that costs a process at most 0.2 % of its CPU time.
  gmpscope daemon --config ./gmpscope.toml --http-listen 127.0.0.1:0
      Settings of another file, and any free port.
  systemctl reload gmpscope
      Read the settings again; a change of a file does that by itself.";

/// Where the daemon's settings are.
const DAEMON_FILES: &str = "\
FILES
  /etc/gmpscope/config.toml
  /etc/gmpscope/conf.d/*.toml
      Settings, in this order, sorted by name; those of the environment come after
      them, then options: the last one wins. `http.listen` is --http-listen,
      GMPSCOPE_HTTP_LISTEN, and `listen` under [http]. Rules about processes,
      [[target]], are in files only, and those of later files come first.
      An unknown key is a mistake; one mistake, and nothing of all is taken.";

/// Signals that the daemon knows.
const DAEMON_SIGNALS: &str = "\
SIGNALS
  HUP        read the settings again, and log it as a line of JSON on stderr;
             with a mistake the ones from before stay
  TERM, INT  detach from all, and end";

/// The daemon's variables.
const DAEMON_ENVIRONMENT: &str = "\
ENVIRONMENT
  GMPSCOPE_HTTP_LISTEN, and so on
      Settings, as named with each option; options win.";

/// What the daemon's exit status says.
const DAEMON_EXIT_STATUS: &str = "\
EXIT STATUS
  0  ended by a signal
  1  failed
  2  wrong usage, or a mistake in the settings
  4  not enough privilege, or the kernel lacks a feature";

/// `gmpscope config --help`, first words.
pub const CONFIG_ABOUT: &str = "\
Show and check the daemon's settings.

They come in layers, and the last one wins: built-in defaults,
/etc/gmpscope/config.toml, /etc/gmpscope/conf.d/*.toml, the environment, options
of the command line.";

/// `gmpscope config -h`.
pub const CONFIG_EXAMPLES: &str = "\
EXAMPLES
  gmpscope config show
  gmpscope config check";

/// `gmpscope config show -h`.
pub const CONFIG_SHOW_EXAMPLES: &str = "\
EXAMPLES
  gmpscope config show
      Each setting, and the file and line, the variable or the option that sets
      it. The environment is that of this shell, not of a running daemon.
  gmpscope config show --config ./gmpscope.toml --budget-target 1%
      What `gmpscope daemon` would have with the same options.
  gmpscope config show --format toml | sha256sum
      The digest that the daemon reports with each reload.";

/// `gmpscope config check -h`.
pub const CONFIG_CHECK_EXAMPLES: &str = "\
EXAMPLES
  gmpscope config check && systemctl reload gmpscope
      Reload only what has no mistake.
  gmpscope config check ./gmpscope.toml conf.d/*.toml
      Files for another machine: they alone, without this environment.";

/// What the exit status of `config` says.
const CONFIG_EXIT_STATUS: &str = "\
EXIT STATUS
  0  no mistake
  2  mistakes, a line each on stderr: FILE:LINE:COLUMN: SETTING: what is wrong";

/// `gmpscope daemon --help`, last words.
pub fn daemon_sections() -> String {
    [
        DAEMON_EXAMPLES,
        DAEMON_FILES,
        DAEMON_SIGNALS,
        DAEMON_ENVIRONMENT,
        DAEMON_EXIT_STATUS,
    ]
    .join("\n\n")
}

/// `gmpscope config --help`, last words.
pub fn config_sections() -> String {
    [CONFIG_EXAMPLES, CONFIG_EXIT_STATUS].join("\n\n")
}

/// `gmpscope config show --help`, last words.
pub fn config_show_sections() -> String {
    [CONFIG_SHOW_EXAMPLES, DAEMON_FILES, CONFIG_EXIT_STATUS].join("\n\n")
}

/// `gmpscope config check --help`, last words.
pub fn config_check_sections() -> String {
    [CONFIG_CHECK_EXAMPLES, CONFIG_EXIT_STATUS].join("\n\n")
}
