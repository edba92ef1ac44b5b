//! Region and endpoint as the AWS tools find them: the standard variables, then the profile in `~/.aws/config`.
//!
//! See <https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>. Not by aws-config's loader: where nobody
//! names a region that asks the instance's metadata service, which off AWS stalls or refuses.

use aws_config::profile::ProfileSet;
use aws_runtime::env_config::EnvConfigValue;
use aws_types::os_shim_internal::{Env, Fs};

/// What the environment and the profile say where no option does.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Shared {
    /// `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, the profile's `services` section, or the profile's `endpoint_url`.
    pub endpoint: Option<String>,
    /// `AWS_REGION`, `AWS_DEFAULT_REGION`, or the profile's `region`.
    pub region: Option<String>,
}

/// Looks it up for `profile`, else for `AWS_PROFILE`, else for `default`.
pub async fn lookup(profile: Option<&str>) -> Shared {
    let (fs, env) = (Fs::real(), Env::real());
    let profile = profile.map(|name| name.to_owned().into());
    // What is wrong with these files is told by those who need credentials from them.
    let sections = aws_config::profile::load(&fs, &env, &Default::default(), profile).await.unwrap_or_default();
    let value = |key: EnvConfigValue<'_>| found(&env, &sections, &key);
    Shared {
        endpoint: value(EnvConfigValue::new().env("AWS_ENDPOINT_URL").profile("endpoint_url").service_id("s3")),
        region: value(EnvConfigValue::new().env("AWS_REGION"))
            .or_else(|| value(EnvConfigValue::new().env("AWS_DEFAULT_REGION").profile("region"))),
    }
}

/// An empty value is as good as none.
fn found(env: &Env, sections: &ProfileSet, key: &EnvConfigValue<'_>) -> Option<String> {
    key.load(env, Some(sections)).map(|(value, _)| value.into_owned()).filter(|value| !value.is_empty())
}
