-- The oracle's tables in Trino's types. eds, eds_once, eds2, eds3: CloudTrail events; cfg: configuration items; activity: non-AWS events; insights: Insights events.
-- eds: 18408 rows
CREATE TABLE eds2 (
    eventversion varchar,
    useridentity row(type varchar, principalid varchar, arn varchar, accountid varchar, accesskeyid varchar, username varchar, sessioncontext row(attributes row(creationdate timestamp(3), mfaauthenticated varchar), sessionissuer row(type varchar, principalid varchar, arn varchar, accountid varchar, username varchar), webidfederationdata row(federatedprovider varchar, attributes map(varchar, varchar)), sourceidentity varchar, ec2roledelivery varchar, ec2issuedinvpc varchar), onbehalfof row(userid varchar, identitystorearn varchar), inscopeof row(sourcearn varchar, sourceaccount varchar, issuertype varchar, credentialsissuedto varchar), invokedby varchar, identityprovider varchar),
    eventtime timestamp(3),
    eventsource varchar,
    eventname varchar,
    awsregion varchar,
    sourceipaddress varchar,
    useragent varchar,
    errorcode varchar,
    errormessage varchar,
    requestparameters map(varchar, varchar),
    responseelements map(varchar, varchar),
    additionaleventdata map(varchar, varchar),
    requestid varchar,
    eventid varchar,
    readonly boolean,
    resources array(row(accountid varchar, type varchar, arn varchar, arnprefix varchar)),
    eventtype varchar,
    apiversion varchar,
    managementevent boolean,
    recipientaccountid varchar,
    sharedeventid varchar,
    annotation varchar,
    vpcendpointid varchar,
    vpcendpointaccountid varchar,
    serviceeventdetails map(varchar, varchar),
    addendum map(varchar, varchar),
    edgedevicedetails map(varchar, varchar),
    insightdetails map(varchar, varchar),
    eventcategory varchar,
    tlsdetails row(tlsversion varchar, ciphersuite varchar, clientprovidedhostheader varchar),
    sessioncredentialfromconsole varchar,
    eventjson varchar,
    eventjsonchecksum varchar
);
-- eds2: 1683 rows
-- eds3: 44 rows
CREATE TABLE eds3 (LIKE eds2);
-- cfg: 5 rows
CREATE TABLE cfg (
    eventversion varchar,
    eventcategory varchar,
    eventtype varchar,
    eventid varchar,
    eventtime timestamp(3),
    awsregion varchar,
    recipientaccountid varchar,
    addendum map(varchar, varchar),
    eventdata row(configurationitemversion varchar, configurationitemcapturetime varchar, configurationitemstatus varchar, configurationitemstateid varchar, accountid varchar, resourcetype varchar, resourceid varchar, resourcename varchar, arn varchar, awsregion varchar, availabilityzone varchar, resourcecreationtime varchar, configuration map(varchar, varchar), supplementaryconfiguration map(varchar, varchar), relatedevents varchar, relationships array(row(name varchar, resourcetype varchar, resourceid varchar, resourcename varchar)), tags map(varchar, varchar)),
    eventjson varchar,
    eventjsonchecksum varchar
);
-- activity: 6 rows
CREATE TABLE activity (
    eventversion varchar,
    eventcategory varchar,
    eventtype varchar,
    eventid varchar,
    eventtime timestamp(3),
    awsregion varchar,
    recipientaccountid varchar,
    addendum row(reason varchar, updatedfields varchar, originaluid varchar, originaleventid varchar),
    metadata row(ingestiontime varchar, channelarn varchar),
    eventdata row(version varchar, useridentity row(type varchar, principalid varchar, details map(varchar, varchar)), useragent varchar, eventsource varchar, eventname varchar, eventtime varchar, uid varchar, requestparameters map(varchar, varchar), responseelements map(varchar, varchar), errorcode varchar, errormessage varchar, sourceipaddress varchar, recipientaccountid varchar, additionaleventdata map(varchar, varchar)),
    eventjson varchar,
    eventjsonchecksum varchar
);
-- insights: 4 rows
CREATE TABLE insights (
    eventversion varchar,
    eventcategory varchar,
    eventtype varchar,
    eventid varchar,
    eventtime timestamp(3),
    awsregion varchar,
    recipientaccountid varchar,
    sharedeventid varchar,
    addendum map(varchar, varchar),
    insightsource varchar,
    insightstate varchar,
    insighteventsource varchar,
    insighteventname varchar,
    insighterrorcode varchar,
    insighttype varchar,
    insightcontext row(baselineaverage double, insightaverage double, baselineduration integer, insightduration integer, attributions array(row(attribute varchar, insight array(row(value varchar, average double)), baseline array(row(value varchar, average double))))),
    eventjson varchar,
    eventjsonchecksum varchar
);
