//! Findings as people read them.

use onceward_gateway::doctor::{Findings, Level};

/// As the admin API has them.
pub(super) fn json(findings: &Findings) -> String {
    let text = serde_json::to_string_pretty(findings).expect("findings hold texts only");
    format!("{text}\n")
}

/// One block for each theme, one line for each finding, the remedy below it, and the counts at the end.
pub(super) fn table(findings: &Findings) -> String {
    let width =
        findings.findings.iter().filter_map(|it| it.setting.as_ref()).map(String::len).max().unwrap_or(0);
    let mut out = String::new();
    let mut before = "";
    for it in &findings.findings {
        // The theme is the first word of the check.
        let theme = it.check.split('-').next().unwrap_or_default();
        if theme != before {
            out.push_str(&format!("{theme}\n"));
            before = theme;
        }
        let setting = it.setting.as_deref().unwrap_or_default();
        let gap = if width == 0 { "" } else { "  " };
        out.push_str(&format!("  {:<7}  {setting:<width$}{gap}{}\n", it.level, it.says));
        if let Some(remedy) = &it.remedy {
            out.push_str(&format!("  {:<7}  {:<width$}{gap}→ {remedy}\n", "", ""));
        }
    }
    out.push_str(&counts(findings));
    out
}

/// `1 error, 2 warnings, 0 notices, 7 fine`
fn counts(findings: &Findings) -> String {
    let count = |level| findings.findings.iter().filter(|it| it.level == level).count();
    let several = |level: Level| {
        let count = count(level);
        format!("{count} {level}{}", if count == 1 { "" } else { "s" })
    };
    format!(
        "{}, {}, {}, {} fine\n",
        several(Level::Error),
        several(Level::Warning),
        several(Level::Notice),
        count(Level::Ok)
    )
}

#[cfg(test)]
mod tests {
    use onceward_gateway::doctor::Finding;

    use super::*;

    #[test]
    fn findings_are_grouped_aligned_and_counted() {
        let finding = |level, check: &str, setting: Option<&str>, remedy: Option<&str>| Finding {
            level,
            check: check.into(),
            setting: setting.map(Into::into),
            says: "says".into(),
            remedy: remedy.map(Into::into),
        };
        let findings = vec![
            finding(Level::Ok, "store-open", None, None),
            finding(Level::Warning, "store-mode", Some("store"), Some("do")),
            finding(Level::Error, "tls-files", Some("tls.cert"), Some("do")),
        ];
        let expected = "store\n  ok                 says\n  warning  store     says\n                     → do\n\
                        tls\n  error    tls.cert  says\n                     → do\n\
                        1 error, 1 warning, 0 notices, 1 fine\n";
        assert_eq!(table(&Findings { findings }), expected);
        assert_eq!(table(&Findings::default()), "0 errors, 0 warnings, 0 notices, 0 fine\n");
    }
}
